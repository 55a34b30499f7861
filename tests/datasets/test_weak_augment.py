"""The weak view and the normalisation."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailmatch.datasets.weak_augment import CropFill, Normalize, WeakAugment
from tailmatch.errors import UserError


def _images(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _crops(image: torch.Tensor, padding: int, fill: CropFill) -> Counter[bytes]:
    """Every view the definition allows, by padding and slicing; a view is counted each time it comes about."""
    mode = {"reflect": "reflect", "zero": "constant"}[fill]
    height, width = image.shape[1:]
    crops: Counter[bytes] = Counter()
    for source in (image, image.flip(-1)):
        padded = F.pad(source.float()[None], (padding,) * 4, mode=mode)[0].to(torch.uint8)
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crops[padded[:, top : top + height, left : left + width].numpy().tobytes()] += 1
    return crops


@pytest.mark.parametrize("fill", ["reflect", "zero"])
@pytest.mark.parametrize(("shape", "padding"), [((1, 8, 8), 1), ((3, 9, 7), 3), ((3, 32, 32), 4), ((1, 5, 8), 4)])
def test_every_view_is_a_flip_and_a_padded_crop_and_all_are_evenly_drawn(
    shape: tuple[int, int, int], padding: int, fill: CropFill
) -> None:
    image = _images(*shape)
    crops = _crops(image, padding, fill)
    views = WeakAugment(padding=padding, fill=fill)(image.expand(50 * crops.total(), *shape), _generator())
    drawn = Counter(view.numpy().tobytes() for view in views)
    assert drawn.keys() == crops.keys()
    assert stats.chisquare([drawn[crop] for crop in crops], [50 * times for times in crops.values()]).pvalue > 0.001


def test_without_flip_no_image_is_mirrored() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(200, 3, 32, 32)
    views = WeakAugment(padding=4, flip=False)(ramp, _generator()).int()
    assert (views[..., 10] < views[..., 20]).all()
    assert (WeakAugment(padding=4)(ramp, _generator()).int()[:, 0, 0].diff().sum(1) < 0).any()


def test_black_beyond_the_edges_leaves_what_lies_within_as_it_is_and_draws_alike() -> None:
    images = _images(40, 3, 12, 10).clamp_min(1)  # so that black is what was filled in
    reflected, black = (WeakAugment(padding=4, fill=fill)(images, _generator()) for fill in ("reflect", "zero"))
    filled = black == 0
    assert 0 < filled.float().mean() < 0.5
    assert torch.equal(black[~filled], reflected[~filled])
    far = WeakAugment(padding=50, fill="zero", flip=False)(images, _generator())
    assert (far.flatten(1) == 0).all(1).any()  # moved out of sight, which reflection cannot do


def test_without_padding_and_flip_nothing_changes() -> None:
    images = _images(5, 3, 12, 10)
    assert torch.equal(WeakAugment(padding=0, flip=False)(images, _generator()), images)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9), st.sampled_from([1, 3]), st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31))
def test_same_generator_state_same_views_and_the_source_is_kept(
    count: int, channels: int, height: int, width: int, seed: int
) -> None:
    images = _images(count, channels, height, width)
    before = images.clone()
    weak = WeakAugment(padding=min(height, width) - 1)
    first = weak(images, _generator(seed))
    assert torch.equal(first, weak(images, _generator(seed)))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(images, before)


def test_memory_layout_of_the_source_makes_no_difference() -> None:
    images = _images(6, 3, 8, 8)
    weak = WeakAugment(padding=2)
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(weak(images, _generator()), weak(strided, _generator()))


def test_refusals_of_the_weak_view() -> None:
    with pytest.raises(UserError, match=r"Got padding 8 for images of 8 x 9 pixels.*use at most 7"):
        WeakAugment(padding=8)(_images(2, 1, 8, 9), _generator())
    with pytest.raises(UserError, match="Got padding -1"):
        WeakAugment(padding=-1)
    with pytest.raises(TypeError, match=r"torch.float32.*uint8 \[B, C, H, W\]"):
        WeakAugment()(torch.zeros(2, 3, 8, 8), _generator())
    with pytest.raises(TypeError, match=r"\[3, 8, 8\]"):
        WeakAugment()(_images(3, 8, 8), _generator())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalize_is_the_usual_formula(layout: torch.memory_format, dtype: torch.dtype) -> None:
    images = _images(4, 3, 6, 5)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    got = Normalize(mean, std, dtype=dtype, memory_format=layout)(images)
    expected = (images.double() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=layout)
    torch.testing.assert_close(got, expected.to(dtype), rtol=0, atol=1e-6 if dtype == torch.float32 else 0.02)


def test_refusals_of_normalize() -> None:
    with pytest.raises(UserError, match="one of each per channel, std above 0"):
        Normalize((0.5,), (0.0,))
    with pytest.raises(UserError, match="one of each per channel"):
        Normalize((0.5, 0.5), (0.2,))
    with pytest.raises(UserError, match="Got images of 1 channels; mean and std are for 3"):
        Normalize((0.5,) * 3, (0.2,) * 3)(_images(1, 1, 4, 4))
    with pytest.raises(TypeError, match="float32"):
        Normalize((0.5,), (0.2,))(torch.zeros(1, 1, 4, 4))
