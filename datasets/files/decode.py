"""From the bytes of an image file to RGB pixels, no more of them than a crop needs.

Decoding a JPEG is most of what a training crop costs. Three things make it cheaper:

- simplejpeg (optional) hands libjpeg-turbo's pixels over without Pillow's copy and padding;
- an image much larger than what is wanted is decoded at 1/2, 1/4 or 1/8 of its size, inside libjpeg's inverse DCT;
- rows below the crop are not decoded at all. The coded rows come from top to bottom, so a smaller height written into
  the header makes any decoder stop there.

Both decoders are libjpeg-turbo, so their pixels are equal bit for bit; whatever simplejpeg does not take (CMYK, PNG
files named .JPEG as ImageNet has one, damaged files) goes to Pillow.
"""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

try:
    import simplejpeg  # type: ignore[import-untyped, import-not-found, unused-ignore]
except ImportError:
    simplejpeg = None

Pixels = NDArray[np.uint8]

_MARGIN_ROWS = 16
"""Rows kept below a crop: chroma is interpolated between rows, and the last ones see the artificial end."""
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 27
"""More is a broken header, or an attack on the memory."""
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class Box(NamedTuple):
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)


class Header(NamedTuple):
    """What the frame header of a JPEG says."""

    width: int
    height: int
    height_at: int
    """Where in the file the two bytes of the height are."""
    sequential: bool
    """Coded from top to bottom; a progressive file holds every row in every scan."""
    channels: int


class Picture:
    """An image file in memory whose size is known and whose pixels are decoded when asked for.

    Raises:
        OSError, ValueError, SyntaxError: Pillow's, if it is not an image or is cut off; see `reason_of`.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header = jpeg_header(data)
        if self.header is not None:
            self.width, self.height = self.header.width, self.header.height
        else:
            with Image.open(io.BytesIO(data)) as image:
                self.width, self.height = image.size
        if self.width * self.height > _MOST_PIXELS:
            raise ValueError(f"it claims to have {self.width} x {self.height} pixels")

    def decode(self, part: Box | None = None, reduction: int = 1) -> Pixels:
        """RGB pixels [rows, columns, 3] of a part of the image, or of all of it.

        Args:
            part: in pixels of the whole image; None: all of it.
            reduction: 1, 2, 4 or 8: decode at this fraction of the size. The part's edges then move to whole pixels
                of the smaller image.
        """
        data, rows, header = self.data, self.height, self.header
        # Without its end marker a file may be cut off, which Pillow reports and a shortened header would hide.
        whole = header is not None and data.endswith(b"\xff\xd9")
        if header is not None and whole and header.sequential and part is not None:
            rows = min(self.height, part.top + part.height + _MARGIN_ROWS * reduction)
            data = b"".join((data[: header.height_at], rows.to_bytes(2, "big"), data[header.height_at + 2 :]))
        if part is not None and reduction > 1:
            part = Box(*(edge // reduction for edge in part))
        if simplejpeg is not None and header is not None and whole and header.channels in (1, 3):
            size = {"min_height": -(-rows // reduction), "min_width": -(-self.width // reduction)}
            try:
                # The unread rows are "extraneous data", which the strict mode refuses.
                pixels: Pixels = simplejpeg.decode_jpeg(data, min_factor=reduction, strict=False, **size)
            except ValueError:
                pass  # Pillow takes more, and says better what is wrong with the rest
            else:
                return pixels if part is None else pixels[part.rows, part.columns]
        return _decode_with_pillow(data, part, reduction)


def jpeg_header(data: bytes) -> Header | None:
    """The frame header of a JPEG; None if this is not a JPEG or its markers do not follow the standard."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:  # a fill byte, or a marker that stands alone
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _START_OF_FRAME:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return Header(width, height, at + 5, marker in _SEQUENTIAL, data[at + 9]) if width and height else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _decode_with_pillow(data: bytes, part: Box | None, reduction: int) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if reduction > 1:
            image.draft("RGB", (width // reduction, height // reduction))
        picture = image if image.mode == "RGB" else image.convert("RGB")
        if picture.width != -(-width // reduction):  # only JPEG has drafts
            picture = picture.reduce(reduction)
        if part is not None:
            picture = picture.crop((part.left, part.top, part.left + part.width, part.top + part.height))
        return np.array(picture)


def reason_of(error: Exception) -> str:
    """In a few words why an image could not be read."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
