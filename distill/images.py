"""The images of a run with labels, the same to its task whether they lie in memory or in files.

Training batches come augmented by the plain transforms of the literature: mirroring and a shifted crop for small
images, a random resized crop and mirroring for files. Evaluation sees every image of a split once, in order.

Shape suffixes: B images of a step, N of a whole split.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailmatch.datasets.base import Dataset, ImageSet
from tailmatch.datasets.feature_views import FeatureViews, plain_view
from tailmatch.datasets.files.file_set import FileSet
from tailmatch.datasets.files.load import FileDataset
from tailmatch.datasets.files.loader import ImageLoader
from tailmatch.datasets.files.views import draws_of
from tailmatch.datasets.seeded_views import SeveralWeakViews, views_of_part
from tailmatch.datasets.weak_augment import Normalize, WeakAugment
from tailmatch.engine.distributed import World
from tailmatch.engine.evaluated import batches_of
from tailmatch.engine.files import read_plain
from tailmatch.engine.profile import Profile
from tailmatch.engine.sampling import EvalPlan, Plan
from tailmatch.engine.seeding import generator
from tailmatch.errors import UserError

EVALUATED_AT_ONCE = 512


class Batch(NamedTuple):
    """Normalised images and their classes."""

    images: Tensor  # float [B, channels, H, W]
    labels: Tensor  # int64 [B]
    indices: Tensor  # int64 [B], which training images these are
    views: Tensor | None = None  # int64 [B], which of the views that a teacher's store has of each

    @property
    def known_by(self) -> Tensor:
        """By what a teacher in a store knows these images: int64 [B], or [B, 2] with their views."""
        return self.indices if self.views is None else torch.stack([self.indices, self.views], 1)


class Images(ABC):
    """Training batches by step, and the splits `train`, `val` and `test` without augmentation."""

    name: str
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    short_side: int | None = None
    """To which evaluations scale an image before they take its centre; None where the images have their size."""
    labels: dict[str, Tensor]  # int64 [N] of each split
    fingerprint: str
    features: dict[str, Any] | None = None
    """What is known of the features, where the images are those of a store; see `Card`."""
    held_out: bool = False
    """Whether the test images were taken out of the training images' folder."""
    first_drawn: Tensor
    """int64, on the CPU: the training images that the sampler draws first, over all processes; see `sample`."""

    @abstractmethod
    def batch(self, step: int, profile: Profile) -> Batch:
        """This process's part of a step's training images."""

    @abstractmethod
    def split(self, name: str) -> Iterator[Tensor]:
        """All images of a split in order, normalised, in chunks."""

    @abstractmethod
    def sample(self) -> Iterator[Tensor]:
        """The first training images that the sampler draws, without augmentation, in batches of about one size."""

    def _describe(self, dataset: Dataset | FileDataset) -> None:
        self.name, self.class_names = dataset.name, dataset.class_names
        self.channels, self.image_size = dataset.channels, dataset.image_size
        self.mean, self.std = dataset.mean, dataset.std

    @abstractmethod
    def pictures(self, split: str, indices: Tensor) -> Tensor | None:
        """uint8 [n, channels, H, W]: some images of a split as evaluation sees them, not normalised, or None."""

    @abstractmethod
    def digests(self, split: str) -> NDArray[np.uint8]:
        """uint8 [N, 16], by which the images of a split are found in a store."""

    def train_on(self, views: SeveralWeakViews, places: Tensor) -> None:
        """Train on these views from now on, drawn anew at every step, instead of on any.

        Args:
            places: int64 [N] of each training image in the split that the views are of.
        """
        raise NotImplementedError("images in files have no digests, by which a store would be matched")

    def close(self) -> None:  # noqa: B027  (only readers of files have anything to close)
        """End what runs in the background."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> Tensor:
        """int64 [C]: training images of each class."""
        return torch.bincount(self.labels["train"], minlength=self.num_classes).cpu()


class ImagesInMemory(Images):
    """A small data set, whole on the device; or the rows of a feature store, which lie in memory where they fit.

    Args:
        train_view: of a store, `plain` or `weak`.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: Plan,
        first_drawn: Tensor,
        seed: int,
        world: World,
        device: torch.device,
        train_view: str = "plain",
    ) -> None:
        self.fingerprint = _fingerprint(
            part for split in (dataset.train, dataset.val, dataset.test) if split for part in _bytes_of(split)
        )
        dataset = dataset.to(device)
        self._describe(dataset)
        self.plan, self.first_drawn, self.seed, self.world = plan, first_drawn, seed, world
        self.held_out = dataset.held_out is not None
        self._sets = {"train": dataset.train, "test": dataset.test}
        if dataset.val is not None and len(dataset.val):
            self._sets["val"] = dataset.val
        self.labels = {name: images.labels for name, images in self._sets.items()}
        self._plain = plain_view(dataset)
        self._training = self._training_view(dataset, train_view)
        self._stored: tuple[SeveralWeakViews, Tensor] | None = None
        self.features = None if dataset.features is None else dataset.features.described()

    def _training_view(self, dataset: Dataset, of_store: str) -> Callable[[Tensor, torch.Generator], Tensor]:
        if dataset.features is None:
            augment = WeakAugment(padding=dataset.crop_padding, flip=dataset.flip, fill=dataset.crop_fill)
            return lambda images, draw: self._plain(views_of_part(augment, images, draw, self.world))
        views = FeatureViews(dataset.features, dataset.mean, dataset.std)
        return (
            (lambda rows, draw: views.weak(rows, draw, self.world))
            if of_store == "weak"
            else (lambda rows, _: views.plain(rows))
        )

    def batch(self, step: int, profile: Profile) -> Batch:
        train = self._sets["train"]
        with profile("data"):
            chosen = torch.from_numpy(self.plan(step).indices).to(train.labels.device)
            images, labels = train.images[chosen], train.labels[chosen]
        with profile("augmentation"):
            # The 0 was a process's rank; it stays, so that earlier runs can be repeated.
            draw = generator(self.seed, "views", step, 0)
            if self._stored is None:
                return Batch(self._training(images, draw), labels, chosen)
            stored, places = self._stored
            views = torch.randint(stored.count, (len(chosen) * self.world.size,), generator=draw)[self.world.part]
            seen = stored(images, places[chosen.cpu()], views)
            return Batch(self._plain(seen), labels, chosen, views.to(chosen.device))

    def train_on(self, views: SeveralWeakViews, places: Tensor) -> None:
        self._stored = (views, places)

    def split(self, name: str) -> Iterator[Tensor]:
        for images in self._sets[name].images.split(EVALUATED_AT_ONCE):
            yield self._plain(images)

    def pictures(self, split: str, indices: Tensor) -> Tensor | None:
        images = self._sets[split].images
        return None if self.features is not None else images[indices.to(images.device)]

    def digests(self, split: str) -> NDArray[np.uint8]:
        return self._sets[split].digests()

    def sample(self) -> Iterator[Tensor]:
        train = self._sets["train"].images
        for indices in batches_of(self.first_drawn.to(train.device)):
            yield self._plain(train[indices])


class ImagesInFiles(Images):
    """A data set too large for memory, decoded by processes of their own while the model computes."""

    def __init__(
        self,
        dataset: FileDataset,
        plan: Plan,
        first_drawn: Tensor,
        steps: int,
        seed: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self._describe(dataset)
        self.first_drawn = first_drawn
        self.short_side = dataset.eval_view.short_side
        self._files = {"train": dataset.train, "test": dataset.test}
        if dataset.val is not None:
            self._files["val"] = dataset.val
        self.labels = {name: torch.from_numpy(files.labels).to(device) for name, files in self._files.items()}
        self.fingerprint = _fingerprint(
            part for files in self._files.values() for part in (files.paths.tobytes(), files.labels.tobytes())
        )
        self._view, self._workers, self._device = dataset.eval_view, workers, device
        self._normalize = Normalize(dataset.mean, dataset.std, memory_format=torch.channels_last)
        self._training = ImageLoader(
            dataset.train, dataset.train_view, plan, steps, seed=seed, workers=workers, device=device
        )

    def batch(self, step: int, profile: Profile) -> Batch:
        with profile("data"):
            decoded = self._training.batch(step)
        with profile("augmentation"):
            return Batch(self._normalize(decoded.images), decoded.labels, decoded.indices)

    def split(self, name: str) -> Iterator[Tensor]:
        yield from self._plain(self._files[name], EVALUATED_AT_ONCE // 2)

    def sample(self) -> Iterator[Tensor]:
        at_once = max(map(len, batches_of(self.first_drawn)))
        yield from self._plain(self._files["train"].subset(self.first_drawn.numpy()), at_once)

    def _plain(self, files: FileSet, at_once: int) -> Iterator[Tensor]:
        plan = EvalPlan(images=len(files), batch_size=at_once)
        with ImageLoader(files, self._view, plan, plan.steps, workers=self._workers, device=self._device) as evaluation:
            for decoded in evaluation.batches():
                yield self._normalize(decoded.images)

    def pictures(self, split: str, indices: Tensor) -> Tensor:
        files = self._files[split]
        return torch.stack([self._view(read_plain(files.path(i)), draws_of(0, 0, i)) for i in indices.tolist()])

    def digests(self, split: str) -> NDArray[np.uint8]:
        raise UserError(
            f"--teacher-store matches images in memory or in a store, and those of {self.name} lie in files; train on "
            "a store of them too: --dataset store."
        )

    def close(self) -> None:
        self._training.close()


def _bytes_of(images: ImageSet) -> tuple[memoryview, memoryview]:
    """By digests, so that a split of a store's images is called as that of the images themselves."""
    return images.digests().data, images.labels.numpy().data


def _fingerprint(parts: Iterator[bytes | memoryview]) -> str:
    """16 hexadecimal digits that name the images and their split: equal for runs on the same ones."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "little"))  # so that moving an image between splits shows
        digest.update(part)
    return digest.hexdigest()[:16]
