"""The usual augmentation pipeline, one PIL image at a time: the batched one is timed and tested against it."""

import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tailmatch.datasets.strong_augment import OPERATION_RANGES, STRONG_POOL

Picture = Image.Image


def _affine(image: Picture, *coefficients: float) -> Picture:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


PIL_OPERATIONS: dict[str, Callable[[Picture, float], Picture]] = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Identity": lambda image, _: image,
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Rotate": lambda image, degrees: image.rotate(degrees),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "ShearX": lambda image, rate: _affine(image, 1, rate, 0, 0, 1, 0),
    "ShearY": lambda image, rate: _affine(image, 1, 0, 0, rate, 1, 0),
    "Solarize": lambda image, threshold: ImageOps.solarize(image, threshold),
    "TranslateX": lambda image, share: _affine(image, 1, 0, share * image.width, 0, 1, 0),
    "TranslateY": lambda image, share: _affine(image, 1, 0, 0, 0, 1, share * image.height),
}


def to_picture(image: np.ndarray) -> Picture:
    """uint8 [C, H, W] to PIL: mode "L" for one channel, "RGB" for three."""
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def to_array(image: Picture) -> np.ndarray:
    """PIL to uint8 [C, H, W]."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def weak(image: Picture, padding: int, flip: bool) -> Picture:
    """Horizontal flip, reflect padding, random crop."""
    if flip and random.random() < 0.5:
        image = ImageOps.mirror(image)
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    around = [(padding, padding), (padding, padding)] + [(0, 0)] * (pixels.ndim - 2)
    padded = Image.fromarray(np.pad(pixels, around, mode="reflect"))
    left, top = random.randint(0, 2 * padding), random.randint(0, 2 * padding)
    return padded.crop((left, top, left + width, top + height))


def strong(image: Picture, padding: int, flip: bool, pool: Sequence[str] = STRONG_POOL) -> Picture:
    """The weak view, two random operations with probability 0.5 each, a gray square of half the side."""
    image = weak(image, padding, flip)
    for _ in range(2):
        name = random.choice(pool)
        if random.random() < 0.5:
            low, high = OPERATION_RANGES[name] or (0.0, 0.0)
            image = PIL_OPERATIONS[name](image, random.uniform(low, high))
    side = min(image.size) // 2
    left, top = (random.randrange(size) - side // 2 for size in image.size)
    grey = 127 if image.mode == "L" else (127, 127, 127)
    image = image.copy()
    image.paste(grey, (left, top, left + side, top + side))
    return image
