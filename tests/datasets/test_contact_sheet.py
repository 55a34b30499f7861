"""The contact sheet: every image where it belongs, at its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tailmatch.datasets.contact_sheet import draw_contact_sheet, save_contact_sheet
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
    with pytest.raises(UserError, match="Got 1 captions for 2 rows"):
        draw_contact_sheet(images, images, captions=["weak"])
