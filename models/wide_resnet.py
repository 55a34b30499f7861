"""Wide ResNets (Zagoruyko & Komodakis 2016, arXiv:1605.07146) as semi-supervised learning uses them.

FixMatch (Sohn et al. 2020, arXiv:2001.07685; its TensorFlow code) sets what the paper leaves open: LeakyReLU of slope
0.1, BatchNorm with eps 0.001 and momentum 0.001 (0.999 in TensorFlow's convention), normal initialisation of variance
2 / fan-out, a Glorot-normal classifier, and a first block whose shortcut starts after the activation.

The distillation literature (CRD, arXiv:1910.10699) takes ReLU, PyTorch's own BatchNorm, and starts every projecting
shortcut after the activation. Convolutions have no bias in either: each is followed by a BatchNorm that removes it.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from tailmatch.models.catalog import WideResNetShape
from tailmatch.models.stages import Stage


@dataclass(frozen=True, kw_only=True)
class WideResNetStyle:
    """What differs between the fields that use this network."""

    negative_slope: float
    batch_norm_momentum: float
    batch_norm_eps: float
    every_projection_activated: bool
    """Whether the shortcut of every projecting block starts after the activation, or that of the first block only."""


FIXMATCH = WideResNetStyle(
    negative_slope=0.1, batch_norm_momentum=0.001, batch_norm_eps=0.001, every_projection_activated=False
)
DISTILLATION = WideResNetStyle(
    negative_slope=0.0, batch_norm_momentum=0.1, batch_norm_eps=1e-5, every_projection_activated=True
)
# A run on digits takes hundreds of steps, not a million: statistics that move by 0.001 a step would never arrive. In a
# trial of 500 FixMatch steps, 40 labels, four seeds, momentum 0.001, 0.01 and 0.1 ended at 84.9, 95.3 and 96.2 %.
DIGITS = WideResNetStyle(
    negative_slope=0.1, batch_norm_momentum=0.1, batch_norm_eps=0.001, every_projection_activated=False
)
DIGITS_SHAPE = WideResNetShape(blocks_per_group=1, widths=(16, 32, 64), first_stride=1, relu=False)

STEM_WIDTH = 16


class PreActivationBlock(nn.Module):
    """BatchNorm, activation, convolution, twice, beside a shortcut."""

    def __init__(
        self, in_width: int, out_width: int, stride: int, style: WideResNetStyle, *, first_of_network: bool
    ) -> None:
        super().__init__()
        self.bn1 = _batch_norm(in_width, style)
        self.activation1 = _activation(style)
        self.conv1 = nn.Conv2d(in_width, out_width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = _batch_norm(out_width, style)
        self.activation2 = _activation(style)
        self.conv2 = nn.Conv2d(out_width, out_width, kernel_size=3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or in_width != out_width:
            self.shortcut = nn.Conv2d(in_width, out_width, kernel_size=1, stride=stride, bias=False)
        if style.every_projection_activated:
            self.shortcut_after_activation = self.shortcut is not None
        else:
            self.shortcut_after_activation = first_of_network

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation1(self.bn1(x))
        residual = self.conv2(self.activation2(self.bn2(self.conv1(activated))))
        kept = activated if self.shortcut_after_activation else x
        return residual + (kept if self.shortcut is None else self.shortcut(kept))


class WideResNet(nn.Module):
    """A stem, groups of pre-activation blocks, global average pooling, a linear classifier `fc`."""

    def __init__(self, shape: WideResNetShape, num_classes: int, in_channels: int, style: WideResNetStyle) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM_WIDTH, kernel_size=3, padding=1, bias=False)
        self.groups = nn.Sequential()
        width = STEM_WIDTH
        for group, group_width in enumerate(shape.widths):
            blocks = nn.Sequential()
            for block in range(shape.blocks_per_group):
                stride = 1 if block else (2 if group else shape.first_stride)
                first = group == block == 0
                blocks.append(PreActivationBlock(width, group_width, stride, style, first_of_network=first))
                width = group_width
            self.groups.append(blocks)
        self.bn = _batch_norm(width, style)
        self.activation = _activation(style)
        self.fc = nn.Linear(width, num_classes)
        # A group ends before the next one's first BatchNorm and activation.
        ends = [(f"groups.{group}.0.activation1", f"groups.{group}.0.bn1") for group in range(1, len(shape.widths))]
        self.stages = {"stem": Stage("conv1")} | {
            f"group{number}": Stage(f"groups.{number - 1}", *end)
            for number, end in enumerate([*ends, ("activation", "bn")], start=1)
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_normal_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        feature_map = self.activation(self.bn(self.groups(self.conv1(x))))
        return self.fc(feature_map.mean(dim=(2, 3)))


def _batch_norm(channels: int, style: WideResNetStyle) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=style.batch_norm_eps, momentum=style.batch_norm_momentum)


def _activation(style: WideResNetStyle) -> nn.LeakyReLU:
    # In place: BatchNorm's backward needs its input, not its output, so the output's memory is free to change.
    return nn.LeakyReLU(style.negative_slope, inplace=True)
