"""A picture of what the network is shown: one row per kind of view, one column per image, called by its class."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tailmatch.datasets.weak_augment import check_images
from tailmatch.errors import UserError

_GAP = 2
_BACKGROUND = 255
_READABLE_SIDE = 64
_CAPTION_HEIGHT = 14


def spread_over_classes(labels: Tensor, limit: int) -> Tensor:
    """At most `limit` indices: the first images of every class, or of evenly spaced classes where there are more."""
    classes = labels[labels >= 0].unique()
    classes = classes[torch.linspace(0, len(classes) - 1, min(len(classes), limit)).long()]
    each = limit // max(len(classes), 1)
    return torch.cat([(labels == label).nonzero().squeeze(1)[:each] for label in classes] or [labels[:0]])


def draw_contact_sheet(
    *rows: Tensor, captions: Sequence[str] = (), titles: Sequence[str] = (), magnify: int | None = None
) -> np.ndarray:
    """Tiles rows of images into one uint8 [height, width, 3] array.

    Args:
        rows: uint8 [N, C, H, W] each, all of one shape, on any device; C = 1 or 3.
        captions: one per row, written above it; none leaves them out.
        titles: one per column, written above it and shortened to its width.
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
    if titles and len(titles) != len(rows[0]):
        raise UserError(f"Got {len(titles)} titles for {len(rows[0])} images of the contact sheet; give one for each.")
    count, _, height, width = rows[0].shape
    factor = magnify or -(-_READABLE_SIDE // height)
    header, top_line = (_CAPTION_HEIGHT if words else 0 for words in (captions, titles))
    step_y, step_x = header + height * factor + _GAP, width * factor + _GAP
    sheet = np.full((top_line + _GAP + len(rows) * step_y, _GAP + count * step_x, 3), _BACKGROUND, dtype=np.uint8)
    for y, row in enumerate(rows):
        pixels = row.cpu().numpy().transpose(0, 2, 3, 1).repeat(factor, axis=1).repeat(factor, axis=2)
        for x, image in enumerate(pixels):
            top, left = top_line + _GAP + y * step_y + header, _GAP + x * step_x
            sheet[top : top + height * factor, left : left + width * factor] = image
    picture = Image.fromarray(sheet)
    pen = ImageDraw.Draw(picture)
    pen.font = _font()
    for y, caption in enumerate(captions):
        _write(pen, _GAP, top_line + _GAP + y * step_y, caption, sheet.shape[1])
    for x, title in enumerate(titles):
        _write(pen, _GAP + x * step_x, _GAP, title, width * factor)
    return np.array(picture)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """The one that comes with matplotlib: Pillow's own knows no letters but ASCII's."""
    package = find_spec("matplotlib")  # not imported: that takes half a second
    fonts = Path(str(package and package.origin)).with_name("mpl-data") / "fonts" / "ttf"
    return ImageFont.truetype(fonts / "DejaVuSans.ttf", 10)


def _write(pen: ImageDraw.ImageDraw, left: int, top: int, words: str, width: int) -> None:
    """The words in one line, shortened until they fit into the width."""
    kept = " ".join(words.split())
    words = kept
    while kept and pen.textlength(words) > width:
        kept = kept[:-1]
        words = f"{kept.rstrip()}..."
    pen.text((left, top), words, fill=(0, 0, 0))


def save_contact_sheet(
    path: Path,
    *rows: Tensor,
    captions: Sequence[str] = (),
    titles: Sequence[str] = (),
    magnify: int | None = None,
) -> None:
    """Writes `draw_contact_sheet` as PNG."""
    sheet = draw_contact_sheet(*rows, captions=captions, titles=titles, magnify=magnify)
    Image.fromarray(sheet).save(path, format="PNG")
