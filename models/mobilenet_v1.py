"""MobileNet (Howard et al. 2017, arXiv:1704.04861), which torchvision lacks.

It is the student of the usual ResNet-50 teacher in distillation on ImageNet.
"""

from torch import Tensor, nn

from tailmatch.models.stages import Stage

STEM_WIDTH = 32
# Output channels and stride of each depthwise separable block: table 1 of the paper.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(nn.Module):
    """A 3x3 stem of stride 2, thirteen depthwise separable blocks, global average pooling, a linear classifier `fc`."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers = [_convolution(in_channels, STEM_WIDTH, kernel_size=3, stride=2)]
        width = STEM_WIDTH
        for out_width, stride in BLOCKS:
            layers.append(_convolution(width, width, kernel_size=3, stride=stride, groups=width))
            layers.append(_convolution(width, out_width, kernel_size=1))
            width = out_width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(width, num_classes)
        self.stages = {
            name: Stage(f"features.{end}", f"features.{end}.2", f"features.{end}.1") for name, end in _ends().items()
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean(dim=(2, 3)))


def _ends() -> dict[str, int]:
    """The stem, and the last convolution before each further halving of the image, by place in `features`."""
    halving = [number for number, (_, stride) in enumerate(BLOCKS) if stride == 2]
    last = [2 * number for number in (*halving[1:], len(BLOCKS))]  # a block is two convolutions, after the stem
    return {"stem": 0} | {f"stage{number}": end for number, end in enumerate(last, start=1)}


def _convolution(in_width: int, out_width: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(
        in_width, out_width, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(out_width), nn.ReLU(inplace=True))
