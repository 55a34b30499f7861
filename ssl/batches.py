"""The images of step k: labelled ones, and two views of unlabelled ones, made on the device from uint8 tensors.

Which images and how they are augmented is a function of (seed, step, process) alone.

Shape suffixes: B labelled images of a step, U = mu B unlabelled ones, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets.base import Dataset, ImageSet
from ..datasets.strong_augment import StrongAugment
from ..datasets.weak_augment import Normalize, WeakAugment
from ..engine.distributed import World
from ..engine.profile import Profile
from ..engine.sampling import ShuffledIndices, share
from ..engine.seeding import generator


@dataclass
class Batch:
    """One step's images, normalised."""

    labeled: Tensor  # float [B, channels, H, W], weakly augmented
    labels: Tensor  # int64 [B]
    weak: Tensor  # float [U, channels, H, W]
    student: Tensor  # float [U, channels, H, W], a second view of the same images; empty where one is enough
    index: Tensor  # int64 [U], which of the unlabelled images these are


class Batches:
    """Draws the batch of any step from a labelled and an unlabelled set that live on the device.

    Args:
        ratio: unlabelled images per labelled one; 0 for none.
        student_view: `strong`, `weak`, or `same` where the view of the pseudo-label is the one to train.
    """

    def __init__(
        self,
        labeled: ImageSet,
        unlabeled: ImageSet,
        views: "Views",
        batch_size: int,
        ratio: int,
        seed: int,
        world: World,
        student_view: str = "strong",
    ) -> None:
        self.unlabeled, self.views, self.seed, self.world = unlabeled, views, seed, world
        self.sizes = (batch_size, batch_size * ratio)
        self.student_view = student_view
        self.use_labeled(labeled)
        self._unlabeled_order = ShuffledIndices(torch.arange(len(unlabeled)), seed, "unlabelled order")

    def use_labeled(self, labeled: ImageSet, generation: int = 0) -> None:
        """Draw labelled images from this set from now on."""
        purpose = f"labelled order {generation}" if generation else "labelled order"
        self.labeled, self._labeled_order = labeled, ShuffledIndices(torch.arange(len(labeled)), self.seed, purpose)

    def __call__(self, step: int, profile: Profile) -> Batch:
        device = self.labeled.images.device
        with profile("data"):
            x = self._part(self._labeled_order, step, self.sizes[0]).to(device)
            u = self._part(self._unlabeled_order, step, self.sizes[1]).to(device)
            labeled, labels, unlabeled = self.labeled.images[x], self.labeled.labels[x], self.unlabeled.images[u]
        with profile("augmentation"):
            draw = generator(self.seed, "views", step, self.world.rank)
            weak = self.views.weak(labeled, draw)
            nothing = weak[:0]
            return Batch(
                labeled=weak,
                labels=labels,
                weak=self.views.weak(unlabeled, draw) if len(u) else nothing,
                student=self._student(unlabeled, draw) if len(u) and self.student_view != "same" else nothing,
                index=u,
            )

    def _student(self, images: Tensor, draw: torch.Generator) -> Tensor:
        return (self.views.strong if self.student_view == "strong" else self.views.weak)(images, draw)

    def _part(self, order: ShuffledIndices, step: int, size: int) -> Tensor:
        return share(order.take(step * size, size), self.world.rank, self.world.size)


class Views:
    """The weak and the strong view of uint8 images, and the plain one for evaluating; normalised floats."""

    def __init__(self, dataset: Dataset, weak: WeakAugment, strong: StrongAugment) -> None:
        self._weak, self._strong = weak, strong
        self.plain = Normalize(dataset.mean, dataset.std)

    def weak(self, images: Tensor, draw: torch.Generator) -> Tensor:
        return self.plain(self._weak(images, draw))

    def strong(self, images: Tensor, draw: torch.Generator) -> Tensor:
        return self.plain(self._strong(images, draw))

    def rows(self, images: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
        """The same images as they are and through both views, uint8, for a picture of them."""
        return {"as it is": images, "weak": self._weak(images, draw), "strong": self._strong(images, draw)}
