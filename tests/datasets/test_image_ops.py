"""Every batched operation against PIL on the same image and value."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_image

from benchmarks.pil_augmentation import PIL_OPERATIONS, to_array, to_picture
from tailmatch.datasets.strong_augment import NUMBERED, OPERATION_RANGES, STRONG_POOL, Draw, apply_draw


def _photographs(side_y: int, side_x: int, count: int) -> torch.Tensor:
    """Crops of sklearn's two photographs, shrunk by 4 so that a crop holds edges and flat parts alike."""
    random = np.random.default_rng(0)
    crops = []
    for number in range(count):
        photograph = load_sample_image("china.jpg" if number % 2 else "flower.jpg")[::4, ::4]
        top = random.integers(photograph.shape[0] - side_y)
        left = random.integers(photograph.shape[1] - side_x)
        crops.append(photograph[top : top + side_y, left : left + side_x].transpose(2, 0, 1))
    return torch.from_numpy(np.stack(crops))


def _random(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def _awkward() -> torch.Tensor:
    """One value only, two values, a ramp, a single bright pixel, and values one step apart."""
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    lone = torch.zeros(1, 16, 16, dtype=torch.uint8)
    lone[0, 7, 7] = 255
    return torch.stack([torch.full_like(ramp, 200), (ramp % 2) * 255, ramp, lone, 100 + ramp % 2]).expand(5, 3, 16, 16)


BATCHES = {
    "photographs 32": _photographs(32, 32, 24),
    "photographs 96 x 40": _photographs(96, 40, 6),
    "random 32": _random(12, 3, 32, 32),
    "random gray 9 x 13": _random(12, 1, 9, 13),
    "awkward": _awkward(),
    "awkward gray": _awkward()[:, :1],
    "digits": torch.from_numpy((load_digits().images[:24] * 255 / 16).round().astype(np.uint8))[:, None],
}


def _values(name: str, count: int) -> torch.Tensor:
    """From one end of the range to the other, so both signs, and past it by half where PIL allows that."""
    low, high = OPERATION_RANGES[name] or (0.0, 0.0)
    if name == "Posterize":
        return torch.arange(count) % 8 + 1.0
    beyond = 0.0 if name == "Solarize" else 0.5 * (high - low)
    return torch.linspace(max(low - beyond, 0.0) if low >= 0 else low - beyond, high + beyond, count)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", STRONG_POOL)
def test_operation_equals_pil(name: str, batch: str) -> None:
    images = BATCHES[batch].clone()
    values = _values(name, len(images))
    operations = torch.full((len(images),), NUMBERED.index(name))
    ours = apply_draw(images, Draw(operations, values))
    for image, value, got in zip(images, values.tolist(), ours, strict=True):
        expected = to_array(PIL_OPERATIONS[name](to_picture(image.numpy()), value))
        np.testing.assert_array_equal(got.numpy(), expected, err_msg=f"{name} at {value}")
    assert torch.equal(images, BATCHES[batch]), "the images given were changed"
