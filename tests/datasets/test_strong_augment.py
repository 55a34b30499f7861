"""The strong view: what is drawn, how often, and what it does to each image of a batch."""

import pytest
import torch
from scipy import stats

from tailmatch.datasets.strong_augment import (
    NUMBERED,
    OPERATION_RANGES,
    STRONG_POOL,
    Draw,
    StrongAugment,
    apply_draw,
    cut_out,
)
from tailmatch.errors import UserError


def _images(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_published_pool_and_ranges() -> None:
    published = "AutoContrast Brightness Color Contrast Equalize Identity Posterize Rotate Sharpness ShearX ShearY"
    published += " Solarize TranslateX TranslateY"
    assert tuple(published.split()) == STRONG_POOL
    assert set(NUMBERED) == set(STRONG_POOL)
    assert len(STRONG_POOL) == 14
    assert OPERATION_RANGES["Sharpness"] == (0.05, 0.95)
    assert OPERATION_RANGES["Rotate"] == (-30, 30)
    assert OPERATION_RANGES["ShearX"] == OPERATION_RANGES["TranslateY"] == (-0.3, 0.3)
    strong = StrongAugment()
    assert (strong.num_ops, strong.probability, strong.pool) == (2, 0.5, STRONG_POOL)


@pytest.mark.parametrize("pool", [STRONG_POOL, STRONG_POOL[:5], ("Rotate",)])
@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_operations_are_drawn_evenly_from_the_pool(pool: tuple[str, ...], probability: float) -> None:
    count = 40_000
    draw = StrongAugment(pool=pool, probability=probability).draw(count, _generator(1))
    share = dict.fromkeys(NUMBERED, 0.0)
    for name in pool:
        share[name] += probability / len(pool)
    share["Identity"] += 1 - probability
    drawn = torch.bincount(draw.operations, minlength=len(NUMBERED)).double()
    expected = torch.tensor([share[name] * count for name in NUMBERED], dtype=torch.float64)
    assert (drawn[expected == 0] == 0).all()
    possible = expected > 0
    assert stats.chisquare(drawn[possible].numpy(), expected[possible].numpy()).pvalue > 0.001


def test_rounds_and_neighbouring_images_are_drawn_independently() -> None:
    strong, generator = StrongAugment(probability=1.0), _generator(2)
    first, second = strong.draw(40_000, generator).operations, strong.draw(40_000, generator).operations
    for one, other in ((first, second), (first[:-1], first[1:])):
        table = torch.bincount(one * 14 + other, minlength=14 * 14).view(14, 14)
        assert stats.chi2_contingency(table.numpy()).pvalue > 0.001


@pytest.mark.parametrize("name", [name for name in STRONG_POOL if OPERATION_RANGES[name]])
def test_values_are_uniform_in_the_published_range(name: str) -> None:
    low, high = OPERATION_RANGES[name] or (0.0, 0.0)
    values = StrongAugment(pool=(name,), probability=1.0).draw(20_000, _generator(3)).values
    if name == "Posterize":
        assert stats.chisquare(torch.bincount(values.int())[4:].numpy()).pvalue > 0.001
        assert set(values.int().tolist()) == {4, 5, 6, 7, 8}
    else:
        assert values.min() >= low
        assert values.max() <= high
        assert stats.kstest(values.numpy(), "uniform", args=(low, high - low)).pvalue > 0.001


@pytest.mark.parametrize("shape", [(60, 3, 32, 32), (60, 1, 8, 8), (30, 3, 24, 40)])
def test_a_mixed_batch_equals_its_images_one_by_one(shape: tuple[int, ...]) -> None:
    images = _images(*shape)
    draw = StrongAugment(probability=0.9).draw(len(images), _generator(4))
    together = apply_draw(images, draw)
    for i in range(len(images)):
        alone = apply_draw(images[i : i + 1], Draw(draw.operations[i : i + 1], draw.values[i : i + 1]))
        assert torch.equal(alone[0], together[i]), NUMBERED[int(draw.operations[i])]


def test_an_image_does_not_depend_on_its_neighbours_pixels() -> None:
    images, strong = _images(64, 3, 16, 16), StrongAugment(probability=1.0)
    other = images.clone()
    other[1::2] = 255 - other[1::2]
    assert torch.equal(strong(images, _generator(5))[::2], strong(other, _generator(5))[::2])


@pytest.mark.parametrize("shape", [(33, 3, 32, 32), (33, 1, 8, 8), (0, 3, 16, 16), (4, 3, 96, 96)])
def test_same_generator_state_same_views_and_the_source_is_kept(shape: tuple[int, ...]) -> None:
    images = _images(*shape)
    before = images.clone()
    strong = StrongAugment(padding=1)
    first = strong(images, _generator(6))
    assert torch.equal(first, strong(images, _generator(6)))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(images, before)
    if len(images):
        assert not torch.equal(first, strong(images, _generator(7)))


def test_memory_layout_of_the_source_makes_no_difference() -> None:
    images, strong = _images(40, 3, 16, 16), StrongAugment(probability=1.0)
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(strong(images, _generator()), strong(strided, _generator()))
    draw = strong.draw(40, _generator())
    assert torch.equal(apply_draw(images, draw), apply_draw(strided, draw))


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 16), (8, 8, 3), (9, 14, 4)])
def test_cutout_is_a_gray_square_about_a_pixel_drawn_evenly(height: int, width: int, side: int) -> None:
    count = 200 * max(height, width)
    views = cut_out(torch.zeros(count, 3, height, width, dtype=torch.uint8), side, _generator(8))
    assert set(views.unique().tolist()) == {0, 127}
    hole = views[:, 0] == 127
    assert (views == hole[:, None] * 127).all()
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])
    for covered, size in ((rows, height), (columns, width)):
        extent = covered.sum(1)
        assert extent.max() == side
        # The first covered place and the extent give back the centre, clipped squares at both borders included.
        first, last = covered.int().argmax(1), size - 1 - covered.flip(1).int().argmax(1)
        centre = torch.where(first > 0, first + side // 2, last - side + 1 + side // 2)
        assert stats.chisquare(torch.bincount(centre, minlength=size).numpy()).pvalue > 0.001


def test_cutout_is_of_16_pixels_on_large_images_as_on_small_photographs() -> None:
    for side in (32, 96):
        white = torch.full((50, 1, side, side), 255, dtype=torch.uint8)
        views = StrongAugment(pool=("Identity",), padding=0)(white, _generator())
        assert (views == 127).flatten(1).sum(1).max() == 16 * 16


def test_cutout_defaults_to_half_of_a_small_side_and_can_be_left_out() -> None:
    white = torch.full((200, 1, 20, 30), 255, dtype=torch.uint8)
    plain = {"pool": ("Identity",), "padding": 0}
    by_default = StrongAugment(**plain)(white, _generator())
    assert (by_default == 127).flatten(1).sum(1).max() == 100
    assert (StrongAugment(**plain, cutout=6)(white, _generator()) == 127).flatten(1).sum(1).max() == 36
    assert (StrongAugment(**plain, cutout=0)(white, _generator()) == 255).all()


def test_color_leaves_gray_images_alone() -> None:
    images = _images(10, 1, 8, 8)
    strong = StrongAugment(pool=("Color",), probability=1.0, padding=0, flip=False, cutout=0)
    assert torch.equal(strong(images, _generator()), images)


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"Unknown augmentation 'Rotat'. Did you mean 'Rotate'\?"):
        StrongAugment(pool=("Rotat",))
    with pytest.raises(UserError, match="Got an empty pool of augmentations; name one or more of AutoContrast"):
        StrongAugment(pool=())
    with pytest.raises(UserError, match=r"probability 1.5.*between 0 and 1"):
        StrongAugment(probability=1.5)
    with pytest.raises(UserError, match=r"cutout -1.*cannot be negative"):
        StrongAugment(cutout=-1)
    with pytest.raises(UserError, match=r"Got images of 2 channels; strong augmentation knows gray \(1\) and RGB"):
        StrongAugment()(_images(2, 2, 8, 8), _generator())


@pytest.mark.parametrize("channels", [1, 3])
def test_no_pixel_is_read_back_by_the_host(channels: int) -> None:
    # A meta tensor has no data: whatever would make the host wait for a GPU (sizes read from the images, boolean
    # indexing, `.item()`) is an error on it.
    images = torch.empty(300, channels, 16, 16, dtype=torch.uint8, device="meta")
    views = StrongAugment(probability=1.0)(images, _generator())
    assert (views.shape, views.device.type) == (images.shape, "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_views_on_a_gpu_equal_those_on_the_cpu_and_need_no_waiting() -> None:
    images, strong = _images(448, 3, 32, 32), StrongAugment(probability=1.0)
    there = images.cuda()
    strong(there, _generator())
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = strong(there, _generator())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(views.cpu(), strong(images, _generator()))
