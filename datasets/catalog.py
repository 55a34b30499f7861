"""The datasets by name: one row each. Free of torch, so that the command line can list them in no time."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """What is known of a dataset before it is read."""

    description: str
    """One line for `--help` and the documentation."""
    obtain: str
    """How to get it, as the end of a sentence."""
    mean: tuple[float, ...] | None = None
    """Of each channel of the training images, for pixels in 0..1; None: measured when the images are read."""
    std: tuple[float, ...] | None = None
    flip: bool
    """Whether a mirrored image is still of its class."""
    crop_padding: int | None
    """Pixels by which the weak augmentation may move an image; None: an eighth of the image."""
    base: str | None = None
    """For a long-tailed dataset: the one it is cut from."""
    imbalance: float | None = None
    """Its largest class over its smallest, unless told otherwise."""
    val_fraction: float = 0.0
    """The share of each class kept for validation unless told otherwise; taken before the tail is cut."""


_TORCHVISION = "downloaded by torchvision into --data-root (data/ if not given)"

CATALOG: dict[str, DatasetRow] = {
    "digits": DatasetRow(
        description="8x8 gray handwritten digits that come with scikit-learn: 10 classes, 1,352 train, 445 test",
        obtain="nothing to get: it comes with scikit-learn",
        mean=(0.3057,),
        std=(0.3759,),
        flip=False,
        crop_padding=1,
    ),
    "digits-lt": DatasetRow(
        description="digits with a long tail: 121 images of class 0 down to 2 of class 9",
        obtain="nothing to get: it comes with scikit-learn",
        base="digits",
        imbalance=50.0,
        val_fraction=0.1,
        flip=False,
        crop_padding=1,
    ),
}
