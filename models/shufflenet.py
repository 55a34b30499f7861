"""ShuffleNet V1 (Zhang et al. 2018, arXiv:1707.01083) and V2 (Ma et al. 2018, arXiv:1807.11164) for 32x32 images.

The networks of the distillation literature, `ShuffleV1` (three groups, 240/480/960 channels) and `ShuffleV2` (width 1)
of RepDistiller (CRD, arXiv:1910.10699) and mdistiller. Against the papers the stem is a 1x1 convolution of stride 1
without pooling; V2 has one unit more in each stage, since the one that halves the image is not counted among 3, 7, 3.
Weights are drawn as PyTorch draws them.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.models.stages import Stage

STEM_WIDTH = 24
V1_GROUPS = 3
V1_WIDTHS, V1_UNITS = (240, 480, 960), (4, 8, 4)
V2_WIDTHS, V2_UNITS = (116, 232, 464), (3, 7, 3)  # without the one that halves
V2_LAST_WIDTH = 1024


def shuffled(x: Tensor, groups: int) -> Tensor:
    """[B, C, H, W] with the channels of the groups taken in turn."""
    batch, channels, *size = x.shape
    return x.reshape(batch, groups, channels // groups, *size).transpose(1, 2).reshape(x.shape)


class UnitV1(nn.Module):
    """Narrow by 1x1 in groups, shuffle, convolve each channel by 3x3, widen by 1x1 in groups; beside a shortcut.

    The first unit of a stage halves the image: its shortcut is an average pooling, joined as further channels.
    """

    def __init__(self, in_width: int, out_width: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        own = out_width - in_width if halves else out_width
        width, self.groups = own // 4, 1 if in_width == STEM_WIDTH else V1_GROUPS
        self.conv1 = nn.Conv2d(in_width, width, kernel_size=1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stride = 2 if halves else 1
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, groups=width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, own, kernel_size=1, groups=V1_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(own)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = shuffled(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups)
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)), inplace=True)))
        if self.halves:
            return self.relu(torch.cat([out, F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)], dim=1))
        return self.relu(out + x)


class UnitV2(nn.Module):
    """Half of the channels stay, the others pass 1x1, 3x3 on each channel and 1x1; both are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, kernel_size=3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        changed = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(changed)), inplace=True)))
        # Those that stay come out of a ReLU, which a second one leaves as they are.
        return shuffled(self.relu(torch.cat([kept, self.bn3(self.conv3(changed))], dim=1)), groups=2)


class HalvingUnitV2(nn.Module):
    """The first unit of a stage: both branches see all channels and halve the image."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        half = out_width // 2
        self.conv1 = nn.Conv2d(in_width, in_width, kernel_size=3, stride=2, padding=1, groups=in_width, bias=False)
        self.bn1 = nn.BatchNorm2d(in_width)
        self.conv2 = nn.Conv2d(in_width, half, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_width, half, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, kernel_size=3, stride=2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, kernel_size=1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        short = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        long = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)), inplace=True)))
        long = self.bn5(self.conv5(long))
        return shuffled(F.relu(torch.cat([short, long], dim=1), inplace=True), groups=2)


class ShuffleNetV1(nn.Module):
    """A stem, three stages, global average pooling, a classifier `linear`."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM_WIDTH, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                UnitV1(in_width, width, halves=True), *(UnitV1(width, width, halves=False) for _ in range(units - 1))
            )
            for (in_width, width), units in zip(pairwise((STEM_WIDTH, *V1_WIDTHS)), V1_UNITS, strict=True)
        )
        self.linear = nn.Linear(V1_WIDTHS[-1], num_classes)
        self.stages = _stages(V1_UNITS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


class ShuffleNetV2(nn.Module):
    """A stem, three stages, a 1x1 convolution, global average pooling, a classifier `linear`."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM_WIDTH, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(HalvingUnitV2(in_width, width), *(UnitV2(width) for _ in range(units)))
            for (in_width, width), units in zip(pairwise((STEM_WIDTH, *V2_WIDTHS)), V2_UNITS, strict=True)
        )
        self.conv2 = nn.Conv2d(V2_WIDTHS[-1], V2_LAST_WIDTH, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(V2_LAST_WIDTH)
        self.linear = nn.Linear(V2_LAST_WIDTH, num_classes)
        self.stages = _stages(tuple(units + 1 for units in V2_UNITS))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.linear(x.mean(dim=(2, 3)))


def _stages(units: tuple[int, ...]) -> dict[str, Stage]:
    """Features that join two branches have no BatchNorm of their own."""
    ends = {f"layer{number}": f"layer{number}.{count - 1}" for number, count in enumerate(units, start=1)}
    return {"stem": Stage("relu", "relu", "bn1")} | {name: Stage(name, f"{end}.relu") for name, end in ends.items()}
