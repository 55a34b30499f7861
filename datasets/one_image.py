"""One image of any size and colours, as the square uint8 pixels that the sets in memory hold."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

GRAY_MODES = ("1", "L")
_MODES = (*GRAY_MODES, "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # the others hold more than 8 bits a channel


def check_depth(image: Image.Image) -> None:
    """Raises ValueError for pixels that eight bits a channel cannot hold: cut off, they would be another picture."""
    if image.mode not in _MODES:
        raise ValueError(f"its pixels are of Pillow's mode {image.mode!r}; save it with 8 bits a channel")


def square_pixels(opened: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """[channels, size, size]: scaled until the shorter side fits, cropped at the centre; gray for one channel."""
    mode = "L" if channels == 1 else "RGB"
    # JPEG can be decoded at a fraction of its size; twice the wanted size leaves the scaling its quality.
    opened.draft(mode, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(opened).convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)
