"""VGG for 32x32 images (Simonyan & Zisserman 2015, arXiv:1409.1556), as the distillation literature builds it.

Five blocks of 3x3 convolutions (with bias) and BatchNorms, a max-pooling after each of the first three, global average
pooling and one linear classifier: `vgg8_bn` and `vgg13_bn` of RepDistiller (CRD, arXiv:1910.10699) and mdistiller, with
one and two convolutions a block. A fourth max-pooling is there from 64 pixels on, as there.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.models.stages import Stage

WIDTHS = (64, 128, 256, 512, 512)
# Name: convolutions of each block.
VGG_SHAPES = {"vgg8": (1, 1, 1, 1, 1), "vgg13": (2, 2, 2, 2, 2)}
_LARGE = 64  # pixels


class VGG(nn.Module):
    """See the module's text; convolutions are drawn with variance 2 / fan-out, the classifier with deviation 0.01."""

    def __init__(self, convolutions: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _block(count, in_width, width)
            for count, (in_width, width) in zip(convolutions, pairwise((in_channels, *WIDTHS)), strict=True)
        )
        self.activations = nn.ModuleList(nn.ReLU(inplace=True) for _ in WIDTHS)
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        self.stages = {
            ("stem" if number == 0 else f"block{number}"): Stage(
                f"activations.{number}", f"activations.{number}", f"blocks.{number}.{3 * count - 2}"
            )
            for number, count in enumerate(convolutions)
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        pooled = 4 if x.shape[-2] >= _LARGE else 3
        for number, (block, activation) in enumerate(zip(self.blocks, self.activations, strict=True)):
            x = activation(block(x))
            if number < pooled:
                x = F.max_pool2d(x, 2)
        return self.classifier(x.mean(dim=(2, 3)))


def _block(convolutions: int, in_width: int, width: int) -> nn.Sequential:
    """Convolutions with BatchNorm and ReLU; the last ReLU is apart, where features are taken before and after it."""
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [nn.Conv2d(in_width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        in_width = width
    return nn.Sequential(*layers[:-1])
