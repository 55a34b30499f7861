"""Decoding and cropping: the pixels that Pillow and the reference transforms give, and only those that are needed."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from tailmatch.datasets.files import decode
from tailmatch.datasets.files.decode import Box, Picture, jpeg_header
from tailmatch.datasets.files.views import EvalView, TrainView, crop, draws_of
from tailmatch.errors import UserError
from tailmatch.torchvision_import import torchvision

PHOTO = Image.fromarray(load_sample_images().images[0])


def encoded(width: int, height: int, form: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    PHOTO.resize((width, height)).convert(mode).save(out, form, **options)
    return out.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def pixels_of(image: torch.Tensor) -> np.ndarray:
    """[H, W, C] and signed, as Pillow's pixels can be subtracted from."""
    return image.permute(1, 2, 0).numpy().astype(int)


@pytest.fixture(params=["simplejpeg", "pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two decoders."""
    if request.param == "pillow":
        monkeypatch.setattr(decode, "simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")
    return str(request.param)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_part_holds_exactly_the_pixels_of_the_whole(decoder: str, options: dict, subsampling: int) -> None:
    draws = np.random.default_rng(0)
    for width, height in ((203, 149), (64, 50), (17, 9)):
        data = encoded(width, height, subsampling=subsampling, quality=90, **options)
        picture, whole = Picture(data), by_pillow(data)
        assert (picture.width, picture.height) == (width, height)
        assert np.array_equal(picture.decode(), whole)
        for _ in range(6):
            box = TrainView(scale=(0.01, 1)).box(width, height, draws)
            assert np.array_equal(picture.decode(box), whole[box.rows, box.columns])


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_part_holds_exactly_the_pixels_of_the_reduced_whole(decoder: str, reduction: int) -> None:
    for size in ((203, 149), (160, 96)):
        for data in (encoded(*size, quality=90), encoded(*size, form="PNG")):
            picture = Picture(data)
            whole = picture.decode(reduction=reduction)
            assert whole.shape == (-(-size[1] // reduction), -(-size[0] // reduction), 3)
            part = picture.decode(Box(33, 18, 64, 48), reduction)
            left, top, width, height = (edge // reduction for edge in (33, 18, 64, 48))
            assert np.array_equal(part, whole[top : top + height, left : left + width])


def test_both_decoders_reduce_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    picture = Picture(encoded(501, 377, quality=90))
    fast = {reduction: picture.decode(reduction=reduction) for reduction in (1, 2, 4, 8)}
    monkeypatch.setattr(decode, "simplejpeg", None)
    for reduction, pixels in fast.items():
        assert np.array_equal(picture.decode(reduction=reduction), pixels)


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB")]
)
def test_every_kind_of_image_becomes_rgb(decoder: str, form: str, mode: str) -> None:
    data = encoded(60, 40, form=form, mode=mode)
    assert np.array_equal(Picture(data).decode(), by_pillow(data))
    assert np.array_equal(Picture(data).decode(Box(3, 4, 30, 20)), by_pillow(data)[4:24, 3:33])


def test_an_exif_block_and_what_follows_the_end_change_nothing(decoder: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 40_000
    exif[0x0112] = 6  # an orientation, which the reference's loader does not follow either
    data = encoded(120, 90, exif=exif)
    for file in (data, data + b"\0\0"):
        assert jpeg_header(file) is not None
        assert np.array_equal(Picture(file).decode(Box(5, 6, 50, 40)), by_pillow(data)[6:46, 5:55])


def test_a_cut_off_or_foreign_file_is_refused(decoder: str) -> None:
    data = encoded(120, 90, quality=95)
    for broken in (b"", b"hello", data[:300], data[: len(data) // 2], encoded(60, 40, form="PNG")[:500]):
        with pytest.raises((OSError, ValueError, SyntaxError)):
            Picture(broken).decode(Box(0, 0, 100, 80))


def test_a_header_that_claims_too_much_is_refused() -> None:
    data = encoded(120, 90)
    header = jpeg_header(data)
    assert header is not None
    huge = data[: header.height_at] + b"\xff\xff\xff\xff" + data[header.height_at + 4 :]
    with pytest.raises(ValueError, match="65535 x 65535"):
        Picture(huge)


def test_crops_equal_the_reference_resize() -> None:
    picture = Picture(encoded(400, 300, quality=92))
    for box in (Box(10, 20, 300, 250), Box(40, 5, 90, 120), Box(0, 0, 400, 300)):
        edges = (box.left, box.top, box.left + box.width, box.top + box.height)
        wanted = Image.fromarray(picture.decode()).crop(edges).resize((224, 224), Image.Resampling.BILINEAR)
        difference = np.abs(pixels_of(crop(picture, box, 224)) - np.asarray(wanted))
        assert difference.max() <= 1
        assert difference.mean() < 0.1


def test_a_large_crop_is_decoded_smaller_but_never_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    decode = Picture.decode

    def remember(self: Picture, part: Box | None = None, reduction: int = 1) -> np.ndarray:
        asked.append(reduction)
        return decode(self, part, reduction)

    picture = Picture(encoded(1000, 800, quality=90))
    full = Image.fromarray(picture.decode())
    monkeypatch.setattr(Picture, "decode", remember)
    for box, reduction in ((Box(0, 0, 399, 800), 1), (Box(8, 16, 400, 400), 2), (Box(0, 0, 1000, 800), 4)):
        pixels = pixels_of(crop(picture, box, 100))
        assert asked.pop() == reduction
        edges = (box.left, box.top, box.left + box.width, box.top + box.height)
        wanted = np.asarray(full.crop(edges).resize((100, 100), Image.Resampling.BILINEAR))
        assert np.abs(pixels - wanted).mean() < 1


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 700)])
def test_boxes_follow_the_reference_distribution(width: int, height: int) -> None:
    reference = torchvision("transforms").RandomResizedCrop
    blank = torch.empty(3, height, width)
    torch.manual_seed(0)
    wanted = np.array([reference.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)])
    wanted = wanted[:, [1, 0, 3, 2]]  # top, left, height, width there
    view = TrainView()
    got = np.array([view.box(width, height, draws_of(1, 0, index)) for index in range(3000)])
    assert (got[:, :2] >= 0).all()
    assert (got[:, :2] + got[:, 2:] <= (width, height)).all()
    # The largest distance between two samples' distribution functions; 0.05 is what chance exceeds once in a thousand.
    for feature in (lambda b: b[:, 0], lambda b: b[:, 1], lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 2] / b[:, 3]):
        mine, theirs = np.sort(feature(got)), np.sort(feature(wanted))
        both = np.concatenate([mine, theirs])
        distance = np.searchsorted(mine, both, "right") - np.searchsorted(theirs, both, "right")
        assert np.abs(distance).max() / 3000 < 0.05


def test_no_fitting_box_leaves_the_centre() -> None:
    view = TrainView(scale=(1, 1))
    assert view.box(1000, 100, draws_of(0, 0, 0)) == Box(433, 0, 133, 100)
    assert view.box(100, 1000, draws_of(0, 0, 0)) == Box(0, 433, 100, 133)


def test_a_crop_depends_on_seed_draw_and_index_alone() -> None:
    def numbers(*key: int) -> list[float]:
        return draws_of(*key).random(3).tolist()

    assert numbers(3, 5, 7) == numbers(3, 5, 7)
    assert len({tuple(numbers(*key)) for key in ((3, 5, 7), (3, 5, 8), (3, 6, 7), (4, 5, 7), (5, 3, 7))}) == 5


def test_half_of_the_images_are_mirrored() -> None:
    data = encoded(40, 30)
    heads = 0
    for index in range(400):
        plain = TrainView(size=8, mirror=False)(data, draws_of(0, 0, index))
        tossed = TrainView(size=8)(data, draws_of(0, 0, index))
        heads += torch.equal(tossed, plain.flip(2)) and not torch.equal(tossed, plain)
        assert torch.equal(tossed, plain) or torch.equal(tossed, plain.flip(2))
    assert 150 < heads < 250


@pytest.mark.parametrize(("width", "height"), [(500, 375), (333, 501), (256, 300), (200, 180)])
def test_evaluation_sees_what_the_reference_sees(width: int, height: int) -> None:
    data = encoded(width, height, quality=92)
    pixels = EvalView()(data, draws_of(0, 0, 0))
    short = min(width, height)
    size = (256 * width // short, 256 * height // short)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    wanted = Image.fromarray(by_pillow(data)).resize(size, Image.Resampling.BILINEAR)
    wanted = wanted.crop((left, top, left + 224, top + 224))
    assert np.abs(pixels_of(pixels) - np.asarray(wanted)).max() <= 1
    assert pixels.dtype == torch.uint8


def test_views_refuse_impossible_sizes() -> None:
    with pytest.raises(UserError, match="size must be at least 1"):
        TrainView(size=0)
    with pytest.raises(UserError, match="scale must lie in"):
        TrainView(scale=(0.5, 0.1))
    with pytest.raises(UserError, match="got size 300 of short side 256"):
        EvalView(size=300)


def test_the_colour_jitter_is_pillows_enhancers_in_a_random_order() -> None:
    """As torchvision's ColorJitter(0.4, 0.4, 0.4) applies them, without a change of hue."""
    image = PHOTO.resize((40, 30))
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    orders, factors = set(), []
    for index in range(60):
        found = TrainView(color_jitter=0.4).jittered(pixels, draws_of(0, 0, index))
        draws = draws_of(0, 0, index)
        drawn, order = 1 + 0.4 * (2 * draws.random(3) - 1), draws.permutation(3)
        wanted = image
        for change in order:
            wanted = enhancers[change](wanted).enhance(float(drawn[change]))
        assert np.abs(pixels_of(found) - np.asarray(wanted).astype(int)).max() <= 1
        orders.add(tuple(order.tolist()))
        factors.extend(drawn)
    assert len(orders) == 6
    assert 0.6 <= min(factors) < 0.65
    assert 1.35 < max(factors) <= 1.4


def test_without_a_colour_jitter_a_view_is_what_it_was() -> None:
    data = encoded(300, 260)
    plain, jittered = (TrainView(color_jitter=amount)(data, draws_of(1, 2, 3)) for amount in (0.0, 0.4))
    assert torch.equal(plain, TrainView()(data, draws_of(1, 2, 3)))
    assert not torch.equal(plain, jittered)
    with pytest.raises(UserError, match="colour jitter must lie between 0 and 1"):
        TrainView(color_jitter=1.5)
