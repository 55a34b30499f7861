"""Names and ranges of the strong augmentation's operations. No torch here: `--help` reads this file.

FixMatch (Sohn et al. 2020, arXiv:2001.07685, appendix D, table of transformations) draws each value uniformly from
the range below. Projects differ; where the paper leaves a choice, ours is written next to the number.
"""

ENHANCE_FACTOR = (0.05, 0.95)
"""Brightness, Color, Contrast and Sharpness: 1 keeps the image, 0 gives black, gray, flat and smoothed. The paper's
range. It never exceeds 1: some re-implementations use 0.05 to 1.95, and their numbers belong to that range."""

POSTERIZE_BITS = (4, 8)
"""Bits kept per channel, a whole number, both ends included."""

ROTATE_DEGREES = (-30.0, 30.0)
"""Counter-clockwise about the centre of the image."""

SHEAR_RATE = (-0.3, 0.3)
"""Pixels moved per row (ShearX) or column (ShearY), about the upper left corner as in PIL and the paper's code."""

SOLARIZE_THRESHOLD = (0.0, 256.0)
"""Pixels at or above are inverted. The paper's 0..1 of the full scale, here in pixel values."""

TRANSLATE_SHARE = (-0.3, 0.3)
"""Of the image's width (TranslateX) or height (TranslateY)."""

CUTOUT_GREY = 127
"""The value of every channel inside the cutout."""

OPERATION_PROBABILITY = 0.5
"""How often a drawn operation is applied."""

OPERATION_RANGES: dict[str, tuple[float, float] | None] = {
    "Identity": None,
    "Rotate": ROTATE_DEGREES,
    "ShearX": SHEAR_RATE,
    "ShearY": SHEAR_RATE,
    "TranslateX": TRANSLATE_SHARE,
    "TranslateY": TRANSLATE_SHARE,
    "AutoContrast": None,
    "Brightness": ENHANCE_FACTOR,
    "Color": ENHANCE_FACTOR,
    "Contrast": ENHANCE_FACTOR,
    "Equalize": None,
    "Posterize": POSTERIZE_BITS,
    "Sharpness": ENHANCE_FACTOR,
    "Solarize": SOLARIZE_THRESHOLD,
}
"""Every operation, with the range of its value; None where it takes none."""

STRONG_POOL = tuple(sorted(OPERATION_RANGES))
"""The 14 operations of the paper."""
