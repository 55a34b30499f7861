"""A small convolutional network for 8 x 8 digits: four 3 x 3 convolutions, one pooling in the middle.

Of the networks tried on the embedded digits (40 labels, FixMatch) it learns best for its time on a CPU: max-pooling
keeps the thin strokes that a strided convolution of a small wide ResNet steps over.
"""

from torch import Tensor, nn

from tailmatch.models.stages import Stage


class DigitsCNN(nn.Module):
    """Two convolutions of `width`, max-pooling, two of twice the width, global average pooling, a classifier `fc`."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(in_channels, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
        )
        self.fc = nn.Linear(2 * width, num_classes)
        ends = {"stem": 2, "stage1": 5, "stage2": 12}  # activations: of the first convolution, before pooling, the last
        self.stages = {
            name: Stage(f"features.{end}", f"features.{end}", f"features.{end - 1}") for name, end in ends.items()
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean(dim=(2, 3)))


def _convolution(in_width: int, out_width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_width, out_width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_width),
        nn.LeakyReLU(0.1, inplace=True),
    ]
