"""A picture of what the network is shown: one row per kind of view, one column per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from tailmatch.datasets.weak_augment import check_images
from tailmatch.errors import UserError

_GAP = 2
_BACKGROUND = 255
_READABLE_SIDE = 64
_CAPTION_HEIGHT = 14


def draw_contact_sheet(*rows: Tensor, captions: Sequence[str] = (), magnify: int | None = None) -> np.ndarray:
    """Tiles rows of images into one uint8 [height, width, 3] array.

    Args:
        rows: uint8 [N, C, H, W] each, all of one shape, on any device; C = 1 or 3.
        captions: one per row, written above it; none leaves them out.
        magnify: each pixel becomes a square of this side; None picks the least that makes images 64 pixels high.

    Example:
        `draw_contact_sheet(images, weak(images, generator), strong(images, generator), captions=("as it is", ...))`
    """
    if not rows or len(rows[0]) == 0:
        raise UserError("Got no images for the contact sheet; give one or more rows of at least one image.")
    for row in rows:
        check_images(row)
        if row.shape != rows[0].shape or row.shape[1] not in (1, 3):
            raise UserError(
                f"Got rows of shapes {', '.join(str(list(row.shape)) for row in rows)} for the contact sheet; they must"
                " all have one shape, with 1 or 3 channels."
            )
    if captions and len(captions) != len(rows):
        raise UserError(f"Got {len(captions)} captions for {len(rows)} rows of the contact sheet; give one per row.")
    count, _, height, width = rows[0].shape
    factor = magnify or -(-_READABLE_SIDE // height)
    header = _CAPTION_HEIGHT if captions else 0
    step_y, step_x = header + height * factor + _GAP, width * factor + _GAP
    sheet = np.full((_GAP + len(rows) * step_y, _GAP + count * step_x, 3), _BACKGROUND, dtype=np.uint8)
    for y, row in enumerate(rows):
        pixels = row.cpu().numpy().transpose(0, 2, 3, 1).repeat(factor, axis=1).repeat(factor, axis=2)
        for x, image in enumerate(pixels):
            top, left = _GAP + y * step_y + header, _GAP + x * step_x
            sheet[top : top + height * factor, left : left + width * factor] = image
    return _write_captions(sheet, captions, step_y)


def _write_captions(sheet: np.ndarray, captions: Sequence[str], step_y: int) -> np.ndarray:
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    for y, caption in enumerate(captions):
        pen.text((_GAP, _GAP + y * step_y), caption, fill=(0, 0, 0))
    return np.array(picture)


def save_contact_sheet(path: Path, *rows: Tensor, captions: Sequence[str] = (), magnify: int | None = None) -> None:
    """Writes `draw_contact_sheet` as PNG."""
    Image.fromarray(draw_contact_sheet(*rows, captions=captions, magnify=magnify)).save(path, format="PNG")
