"""The contact sheet: every image where it belongs, at its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tailmatch.datasets.contact_sheet import draw_contact_sheet, save_contact_sheet, spread_over_classes
from tailmatch.errors import UserError


def _images(*shape: int) -> torch.Tensor:
    return torch.randint(255, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_at_its_row_and_column(channels: int) -> None:
    first, second = _images(3, channels, 8, 6), _images(3, channels, 8, 6).flip(0)
    sheet = draw_contact_sheet(first, second, magnify=2)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 + 2 * (16 + 2), 2 + 3 * (12 + 2), 3)
    for y, row in enumerate((first, second)):
        for x, image in enumerate(row):
            tile = sheet[2 + y * 18 : 18 + y * 18 : 2, 2 + x * 14 : 14 + x * 14 : 2]
            expected = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(tile, expected)


def test_small_images_are_magnified_and_captions_take_a_line_each() -> None:
    images = _images(2, 1, 8, 8)
    plain, captioned = draw_contact_sheet(images), draw_contact_sheet(images, captions=["weak"])
    assert plain.shape[0] == 2 + 64 + 2
    assert captioned.shape[0] > plain.shape[0]
    assert (captioned[:14] < 255).any(), "the caption is not written"


def test_titles_take_a_line_and_stay_within_their_columns() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    plain = draw_contact_sheet(images)
    sheet = draw_contact_sheet(images, titles=["", "a name that is far too long for one picture ✓"])
    line = sheet.shape[0] - plain.shape[0]
    np.testing.assert_array_equal(sheet[line:], plain)
    written = (sheet[:line] < 255).any(axis=(0, 2)).nonzero()[0]
    assert 68 <= written.min() < written.max() < 2 + 66 + 64


def test_titles_know_the_letters_of_other_languages() -> None:
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    drawn = {draw_contact_sheet(images, titles=[letter]).tobytes() for letter in "ÄßЖλ"}
    assert len(drawn) == 4, "some came out as the same empty box"


def test_images_are_spread_over_the_classes() -> None:
    labels = torch.tensor([2, 0, -1, 0, 0, 2, 1])
    assert spread_over_classes(labels, 6).tolist() == [1, 3, 6, 0, 5]
    assert spread_over_classes(labels, 3).tolist() == [1, 6, 0]
    assert spread_over_classes(labels, 2).tolist() == [1, 0]  # the first and the last of the classes
    assert spread_over_classes(torch.arange(100), 12).tolist()[::11] == [0, 99]


def test_the_file_holds_the_sheet(tmp_path: Path) -> None:
    images = _images(2, 3, 32, 32)
    save_contact_sheet(tmp_path / "views.png", images, images, captions=["weak", "strong"])
    with Image.open(tmp_path / "views.png") as picture:
        expected = draw_contact_sheet(images, images, captions=["weak", "strong"])
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_refusals() -> None:
    images = _images(2, 3, 8, 8)
    with pytest.raises(UserError, match="no images for the contact sheet"):
        draw_contact_sheet()
    with pytest.raises(UserError, match=r"\[2, 3, 8, 8\], \[1, 3, 8, 8\].*one shape"):
        draw_contact_sheet(images, images[:1])
    with pytest.raises(UserError, match="Got 1 titles for 2 images"):
        draw_contact_sheet(images, titles=["cat"])
    with pytest.raises(UserError, match="Got 1 captions for 2 rows"):
        draw_contact_sheet(images, images, captions=["weak"])
