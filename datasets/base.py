"""What a dataset is here: uint8 images and int64 labels, held whole in memory and moved to the device once.

Shape suffixes: N images, C channels, H and W pixels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

UNKNOWN_LABEL = -1


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images and their labels, in one order.

    Raises:
        TypeError: if the images are not uint8 or the labels not int64.
        ValueError: if the shapes do not fit together.
    """

    images: Tensor
    """uint8 [N, C, H, W], contiguous."""
    labels: Tensor
    """int64 [N]; -1 where the label is unknown."""

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise TypeError(
                f"An ImageSet holds uint8 images and int64 labels, got {self.images.dtype} and {self.labels.dtype}."
            )
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"An ImageSet holds images [N, C, H, W] and labels [N], got {list(self.images.shape)} and "
                f"{list(self.labels.shape)}."
            )
        # A permuted view would be gathered element by element on every step.
        object.__setattr__(self, "images", self.images.contiguous())

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "ImageSet":
        """The images at `indices`, copied, in that order."""
        indices = indices.to(self.labels.device)
        return ImageSet(images=self.images[indices], labels=self.labels[indices])

    def class_counts(self, num_classes: int) -> Tensor:
        """int64 [num_classes]: images of each class; images without a label are not counted."""
        return torch.bincount(self.labels[self.labels >= 0], minlength=num_classes)

    def to(self, device: torch.device | str) -> "ImageSet":
        return ImageSet(images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset as every task sees it."""

    name: str
    class_names: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None
    """For choosing a checkpoint; never part of `train` nor of `test`."""
    unlabeled: ImageSet | None = None
    """Images that never had a label (STL-10's, or a folder's `unlabeled/`)."""
    mean: tuple[float, ...]
    """Of each channel, for pixels in 0..1."""
    std: tuple[float, ...]
    flip: bool
    """Whether the weak augmentation may mirror an image."""
    crop_padding: int
    """By how many pixels the weak augmentation may move an image."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """The side of the images, which are square."""
        return self.train.images.shape[2]

    @property
    def train_class_counts(self) -> Tensor:
        """int64 [num_classes]: training images of each class."""
        return self.train.class_counts(self.num_classes)

    def to(self, device: torch.device | str) -> "Dataset":
        return replace(
            self,
            train=self.train.to(device),
            test=self.test.to(device),
            val=None if self.val is None else self.val.to(device),
            unlabeled=None if self.unlabeled is None else self.unlabeled.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class ReadSets:
    """What a reader found: a `Dataset` still without what the catalog and the user say of it."""

    class_names: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None
    unlabeled: ImageSet | None = None


def unlabeled_set(images: Tensor) -> ImageSet:
    """Images of which no label is known."""
    return ImageSet(images=images, labels=torch.full((len(images),), UNKNOWN_LABEL, dtype=torch.int64))
