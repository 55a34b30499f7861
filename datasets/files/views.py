"""What the model sees of an image file: a random crop for training, the centre for evaluation; uint8 in both.

Normalisation is left to the device, where it costs next to nothing. A view is a pure function of the file and of the
draw's generator, which is made from (seed, draw, index) alone: neither the number of workers nor an interruption
changes a crop.

Shape suffixes: C channels, H and W pixels.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tailmatch.datasets.files.decode import Box, Picture, Pixels
from tailmatch.datasets.image_ops import brightness, color, contrast
from tailmatch.errors import UserError

_TRIES = 10
_JITTER = (brightness, contrast, color)


class View(Protocol):
    """How images become inputs of one size."""

    @property
    def size(self) -> int:
        """The side of the inputs."""

    def __call__(self, data: bytes, draws: np.random.Generator) -> Tensor:
        """uint8 [3, size, size] of an image file."""


def draws_of(seed: int, draw: int, index: int) -> np.random.Generator:
    """The random numbers of one image in one draw (an epoch, or a position in the order of all draws)."""
    return np.random.Generator(np.random.Philox(key=[seed, draw], counter=[0, 0, index, 0]))


@dataclass(frozen=True, kw_only=True)
class TrainView:
    """A random part of the image, resized with antialiasing (RandomResizedCrop), and a coin for mirroring it."""

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    """The part's share of the area, drawn evenly."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Its width over its height, drawn evenly on a logarithmic scale."""
    mirror: bool = True
    color_jitter: float = 0.0
    """How far from 1 the factors of brightness, contrast and saturation may lie, which come in a random order; those of
    torchvision's ColorJitter without a change of hue."""

    def __post_init__(self) -> None:
        if not 0 <= self.color_jitter <= 1:
            raise UserError(f"The colour jitter must lie between 0 and 1, got {self.color_jitter}.")
        if self.size < 1:
            raise UserError(f"The image size must be at least 1, got {self.size}.")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise UserError(
                f"A crop's scale must lie in (0, 1] and its ratio above 0, both rising, got {self.scale} and "
                f"{self.ratio}."
            )

    def __call__(self, data: bytes, draws: np.random.Generator) -> Tensor:
        picture = Picture(data)
        box = self.box(picture.width, picture.height, draws)
        pixels_CHW = crop(picture, box, self.size)
        # Here and not on the device: reversing the rows takes four microseconds.
        pixels_CHW = pixels_CHW.flip(2) if self.mirror and draws.random() < 0.5 else pixels_CHW
        return self.jittered(pixels_CHW, draws) if self.color_jitter else pixels_CHW

    def jittered(self, pixels_CHW: Tensor, draws: np.random.Generator) -> Tensor:
        """Another brightness, contrast and saturation."""
        factors = 1 + self.color_jitter * (2 * draws.random(3) - 1)
        images_BCHW = pixels_CHW[None]
        for change in draws.permutation(3):
            images_BCHW = _JITTER[change](images_BCHW, torch.tensor([factors[change]], dtype=torch.float32))
        return images_BCHW[0]

    def box(self, width: int, height: int, draws: np.random.Generator) -> Box:
        """A part of an image of this size; the centre, as near to the wanted ratio as it goes, where none fits."""
        numbers = draws.random((_TRIES, 2)).tolist()
        left, top = draws.random(2).tolist()
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for first, second in numbers:
            area = width * height * (self.scale[0] + (self.scale[1] - self.scale[0]) * first)
            ratio = math.exp(low + (high - low) * second)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(left * (width - w + 1)), int(top * (height - h + 1)), w, h)
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        return Box((width - w) // 2, (height - h) // 2, w, h)


@dataclass(frozen=True, kw_only=True)
class EvalView:
    """The centre of the image after its short side has been resized."""

    size: int = 224
    short_side: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.short_side:
            raise UserError(
                f"The evaluated centre must lie in the resized image: got size {self.size} of short side "
                f"{self.short_side}."
            )

    def __call__(self, data: bytes, draws: np.random.Generator) -> Tensor:
        # Never a reduced decoding here: the reported accuracy is that of the published protocol.
        return self.centre(Picture(data).decode())

    def centre(self, pixels: Pixels) -> Tensor:
        """uint8 [3, size, size] of RGB pixels [rows, columns, 3]."""
        rows, columns, _ = pixels.shape
        height, width = (self.short_side * side // min(rows, columns) for side in (rows, columns))
        pixels_CHW = resize(pixels, width, height)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return pixels_CHW[:, top : top + self.size, left : left + self.size]


def crop(picture: Picture, box: Box, size: int) -> Tensor:
    """The part of the picture as [3, size, size].

    A large part is decoded smaller, but at least twice the size wanted is left to the filter: reduced right down to the
    size, a crop comes out sharper than the reference's by two grey levels on average, and at twice the size by half of
    one. The part's edges move to whole pixels of the smaller picture.
    """
    reduction = next(r for r in (8, 4, 2, 1) if r == 1 or min(box.width, box.height) // r >= 2 * size)
    return resize(picture.decode(box, reduction), size, size)


def resize(pixels: Pixels, width: int, height: int) -> Tensor:
    """Bilinear with antialiasing, as Pillow does it, by torch's vectorised uint8 kernel: [3, height, width]."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return interpolate(image, (height, width), mode="bilinear", antialias=True)[0]
