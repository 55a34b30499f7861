"""ResNets for 32x32 images: He et al. 2016 (arXiv:1512.03385), section 4.2, as the distillation literature builds them.

Depth 6n + 2: a 3x3 stem, three groups of n basic blocks, global average pooling, a linear classifier `fc`. Where the
width changes the shortcut is a 1x1 convolution with a BatchNorm (the paper's option B), as in CRD (arXiv:1910.10699)
and mdistiller, whose networks these equal, layer names included. In the `x4` networks the stem has 32 channels and the
groups 64, 128 and 256.

The names ending in `-a` are the networks of the long-tailed literature (kaidic/LDAM-DRW and what follows it): shortcuts
without parameters (option A), convolutions and classifier drawn with variance 2 / fan-in.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.models.stages import Stage

NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)
# Name: layers, widths of the stem and of the three groups.
CIFAR_RESNET_SHAPES = {
    "resnet8": (8, NARROW),
    "resnet14": (14, NARROW),
    "resnet20": (20, NARROW),
    "resnet32": (32, NARROW),
    "resnet44": (44, NARROW),
    "resnet56": (56, NARROW),
    "resnet110": (110, NARROW),
    "resnet8x4": (8, WIDE),
    "resnet32x4": (32, WIDE),
}
OPTION_A = "-a"


class BasicBlock(nn.Module):
    """Convolution and BatchNorm, twice, beside a shortcut; the activation after the sum."""

    def __init__(self, in_width: int, out_width: int, stride: int, option_a: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, out_width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if option_a and in_width != out_width:
            self.downsample = PaddedShortcut((out_width - in_width) // 2)
        elif stride != 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, out_width, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out_width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and channels of zeros before and behind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


class CifarResNet(nn.Module):
    """See the module's text; convolutions are drawn from a normal distribution of variance 2 / fan-out."""

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int,
        *,
        option_a: bool = False,
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem_width, *group_widths = widths
        self.conv1 = nn.Conv2d(in_channels, stem_width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _group(blocks, stem_width, group_widths[0], stride=1, option_a=option_a)
        self.layer2 = _group(blocks, group_widths[0], group_widths[1], stride=2, option_a=option_a)
        self.layer3 = _group(blocks, group_widths[1], group_widths[2], stride=2, option_a=option_a)
        self.fc = nn.Linear(group_widths[2], num_classes)
        self.stages = {"stem": Stage("relu", "relu", "bn1")} | {
            group: Stage(group, f"{group}.{blocks - 1}.relu", f"{group}.{blocks - 1}.bn2")
            for group in ("layer1", "layer2", "layer3")
        }
        for module in self.modules():
            if option_a and isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


def _group(blocks: int, in_width: int, out_width: int, *, stride: int, option_a: bool) -> nn.Sequential:
    first = BasicBlock(in_width, out_width, stride, option_a)
    return nn.Sequential(first, *(BasicBlock(out_width, out_width, 1, option_a) for _ in range(blocks - 1)))
