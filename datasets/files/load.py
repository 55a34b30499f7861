"""From a prepared dataset of files to what a task trains on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tailmatch.datasets.files.catalog import file_recipe
from tailmatch.datasets.files.file_set import FileSet
from tailmatch.datasets.files.record import RECORD, Record
from tailmatch.datasets.files.views import EvalView, TrainView
from tailmatch.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FileDataset:
    """A dataset whose images stay in their files; the counterpart of `Dataset`."""

    name: str
    class_names: tuple[str, ...]
    train: FileSet
    test: FileSet
    val: FileSet | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int = 224
    channels: int = 3
    color_jitter: float = 0.0
    """By how much training changes brightness, contrast and saturation; the published crop alone at 0."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def train_class_counts(self) -> Tensor:
        """int64 [num_classes]: training images of each class."""
        return torch.from_numpy(self.train.class_counts(self.num_classes))

    @property
    def train_view(self) -> TrainView:
        """The published training crop."""
        return TrainView(size=self.image_size, color_jitter=self.color_jitter)

    @property
    def eval_view(self) -> EvalView:
        """The published evaluation crop: 224 of 256, or as much of another size."""
        return EvalView(size=self.image_size, short_side=self.image_size * 8 // 7)


def load_file_dataset(name: str, root: Path, *, image_size: int = 224, resized: bool = True) -> FileDataset:
    """A dataset that `data prepare` has made ready.

    Args:
        name: `imagenet-lt` and the like.
        root: the images' folder, or the folder that holds the record.
        image_size: side of the crops.
        resized: whether to train and validate on the smaller copies, if there are any. The test images are always the
            originals: what is reported must not depend on a copy's quality.

    Raises:
        UserError: if it has not been prepared, or its lists have been altered.
    """
    recipe = file_recipe(name)
    if image_size < 1:
        raise UserError(f"The image size must be at least 1, got {image_size}.")
    root = Path(root)
    folder = root if (root / RECORD).is_file() else root / "tailmatch" / name
    record = Record.read(folder, name)
    images = record.images_root(folder)
    if not images.is_dir():
        raise UserError(
            f"The images of {name} are no longer in {images}; run `data prepare {name}` on their new folder."
        )
    copies = folder / record.resized if resized and record.resized else images
    return FileDataset(
        name=name,
        class_names=record.class_names,
        train=record.files(folder, copies, "train"),
        val=record.files(folder, copies, "val") if "val" in record.lists else None,
        test=record.files(folder, images, "test"),
        mean=recipe.mean,
        std=recipe.std,
        image_size=image_size,
    )
