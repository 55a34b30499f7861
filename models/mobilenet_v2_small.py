"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) for 32x32 images, half as wide: the distillation literature's.

RepDistiller (CRD, arXiv:1910.10699) and mdistiller call it `MobileNetV2` or `mobile_half`. Against the paper the stem's
stride of 2 stays, while the second group and the third last keep the image's size, so that 32 pixels end as 2; the last
convolution has 1280 channels at any width; widths are not rounded to multiples of eight; ReLU takes ReLU6's place.
"""

from torch import Tensor, nn

from tailmatch.models.stages import Stage

HALF = 0.5
EXPANSION = 6
# Table 2 of the paper with the strides above. Expansion, output channels at width 1, blocks and stride of each group.
GROUPS = (
    (1, 16, 1, 1), (EXPANSION, 24, 2, 1), (EXPANSION, 32, 3, 2), (EXPANSION, 64, 4, 2),
    (EXPANSION, 96, 3, 1), (EXPANSION, 160, 3, 2), (EXPANSION, 320, 1, 1),
)  # fmt: skip
STEM_WIDTH, LAST_WIDTH = 32, 1280


class InvertedResidual(nn.Module):
    """Widen by 1x1, convolve each channel by 3x3, narrow by 1x1 without activation; a shortcut where shapes allow."""

    def __init__(self, in_width: int, out_width: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_width * expansion
        self.shortcut = stride == 1 and in_width == out_width
        self.conv = nn.Sequential(
            *_convolution(in_width, width, kernel_size=1),
            *_convolution(width, width, kernel_size=3, stride=stride, groups=width),
            nn.Conv2d(width, out_width, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class SmallMobileNetV2(nn.Module):
    """See the module's text; convolutions are drawn with variance 2 / fan-out, the classifier with deviation 0.01."""

    def __init__(self, num_classes: int, in_channels: int, width: float = HALF) -> None:
        super().__init__()
        channels = int(STEM_WIDTH * width)
        self.conv1 = nn.Sequential(*_convolution(in_channels, channels, kernel_size=3, stride=2))
        self.blocks = nn.Sequential()
        for expansion, out_width, count, stride in GROUPS:
            group = nn.Sequential()
            for block in range(count):
                group.append(InvertedResidual(channels, int(out_width * width), 1 if block else stride, expansion))
                channels = int(out_width * width)
            self.blocks.append(group)
        self.conv2 = nn.Sequential(*_convolution(channels, LAST_WIDTH, kernel_size=1))
        self.classifier = nn.Linear(LAST_WIDTH, num_classes)
        # What distillation calls the stages; a block ends without an activation.
        ends = {f"stage{number}": group for number, group in enumerate((1, 2, 4, 6), start=1)}
        self.stages = {"stem": Stage("conv1", "conv1.2", "conv1.1")} | {
            name: Stage(f"blocks.{group}", norm=f"blocks.{group}.{GROUPS[group][2] - 1}.conv.7")
            for name, group in ends.items()
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv2(self.blocks(self.conv1(x))).mean(dim=(2, 3)))


def _convolution(
    in_width: int, out_width: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(
        in_width, out_width, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
    )
    return convolution, nn.BatchNorm2d(out_width), nn.ReLU(inplace=True)
