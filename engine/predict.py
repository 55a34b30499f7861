"""A model's logits on a whole set of uint8 images that live on the device."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, normalize: Callable[[Tensor], Tensor], batch_size: int = 512) -> Tensor:
    """Float32 logits [N, C], in the images' order; the model is left in evaluation mode."""
    model.eval()
    return torch.cat([model(normalize(part)).float() for part in images.split(batch_size)])
