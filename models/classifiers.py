"""Classifiers besides the plain linear layer. Each is a `Linear`, so that `head_of` finds it.

Shape suffixes: B images, C classes, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import Linear

from tailmatch.declare import build, class_of
from tailmatch.models.catalog import HEADS
from tailmatch.models.feature_model import CosineLinear
from tailmatch.models.head import head_of


class ScaledLinear(Linear):
    """A linear layer with one factor for each class's logit: LWS (Kang et al. 2020, arXiv 1910.09217, section 4.2)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.scale = nn.Parameter(torch.ones(out_features))

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.scale * super().forward(features_BD)


def kind_of(model: nn.Module) -> tuple[str, float | None]:
    """What `replace_head` needs to make a model's classifier again: its kind, and a cosine one's scale."""
    head = head_of(model)
    kind = next((kind for kind, row in HEADS.items() if type(head) is class_of(row)), "linear")
    return kind, head.scale if isinstance(head, CosineLinear) else None


def replace_head(model: nn.Module, kind: str, *, scale: float | None = None) -> Linear:
    """Put a fresh classifier of that kind in the place of the model's, and return it.

    Args:
        scale: factor on the logits of a cosine classifier; None: the published one.
    """
    old = head_of(model)
    name = next(name for name, module in model.named_modules() if module is old)
    parent, _, leaf = name.rpartition(".")
    sizes = {"in_features": old.in_features, "out_features": old.out_features}
    new: Linear = build("head", kind, HEADS, sizes, {} if scale is None else {"scale": scale})
    new = new.to(old.weight.device, old.weight.dtype)
    setattr(model.get_submodule(parent), leaf, new)
    return new
