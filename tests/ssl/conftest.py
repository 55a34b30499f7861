"""Small images and a small network that the tests of `ssl/` share."""

import pytest
import torch
from torch import Tensor, nn

from tailmatch.datasets import Dataset, ImageSet

CLASSES, SIDE = 4, 20  # larger than the images that are too small to be moved
HALF = SIDE // 2


class SmallNet(nn.Module):
    """A convolution with BatchNorm, a pool and a classifier: everything a step can go wrong with."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.conv(images)).relu()
        return self.fc(nn.functional.adaptive_avg_pool2d(hidden, 2).flatten(1))


def make_images(count: int, seed: int) -> ImageSet:
    """Images whose bright quarter is their class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    images = torch.randint(0, 60, (count, 1, SIDE, SIDE), generator=draw)
    for label in range(CLASSES):
        top, left = divmod(label, 2)
        images[labels == label, :, HALF * top : HALF * (top + 1), HALF * left : HALF * (left + 1)] += 150
    return ImageSet(images=images.to(torch.uint8), labels=labels)


@pytest.fixture
def small_dataset() -> Dataset:
    return Dataset(
        name="quarters",
        class_names=tuple("abcd"),
        train=make_images(120, 0),
        test=make_images(40, 1),
        mean=(0.3,),
        std=(0.3,),
        flip=False,
        crop_padding=2,
    )


@pytest.fixture
def small_net() -> type[SmallNet]:
    return SmallNet


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
