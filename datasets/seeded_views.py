"""Views that follow from a seed and an image's place alone: the same in any batch, in any order, when made anew.

One seed draws the random numbers of all images of a split at once, some tens of bytes an image, and a batch takes those
of its images. So whoever knows the seed sees the very view that a feature store was made of.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tailmatch.datasets.strong_augment import STRONG_POOL, StrongAugment
from tailmatch.datasets.weak_augment import Moves, WeakAugment
from tailmatch.engine.distributed import World

TINY_IMAGE = 16


def published_augmentations(image_size: int, *, flip: bool, padding: int) -> tuple[WeakAugment, StrongAugment]:
    """The weak and the strong view of semi-supervised learning, as published.

    Tiny images are labelled and pseudo-labelled as they are, since moving an 8 x 8 digit by one pixel costs FixMatch
    two points of accuracy; their strong view takes three operations instead of two.
    """
    still, rounds = (0, 3) if image_size <= TINY_IMAGE else (padding, 2)
    strong = StrongAugment(padding=still, flip=flip, num_ops=rounds, pool=STRONG_POOL)
    return WeakAugment(padding=still, flip=flip), strong


def views_of_part(
    augment: WeakAugment | StrongAugment, images: Tensor, generator: torch.Generator, world: World
) -> Tensor:
    """The views uint8 [B, C, H, W] of this process's part of a batch.

    The random numbers of the whole batch are drawn, which costs next to nothing, so that an image gets the same view
    however many processes share the batch; only the part's images are made.
    """
    draws = augment.draw_all(len(images) * world.size, generator).at(world.part)
    return augment.apply(images, draws)  # type: ignore[arg-type]


class SeededViews:
    """One augmented view of each image of a split.

    Args:
        augment: what makes it.
        images: how many the split has.
        seed: of the draws.
    """

    def __init__(self, augment: WeakAugment | StrongAugment, images: int, seed: int) -> None:
        self._augment = augment
        self._draws = augment.draw_all(images, torch.Generator().manual_seed(seed))

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        """The views uint8 [B, C, H, W] of the images of that shape with the places `rows` int64 [B] in the split."""
        return self._augment.apply(images, self._draws.at(rows))  # type: ignore[arg-type]


class SeveralWeakViews:
    """Several weak views of each image of a split, one a seed: those of `SeededViews`, any of them in one batch."""

    def __init__(self, augment: WeakAugment, images: int, seeds: Sequence[int]) -> None:
        self._augment, self._images, self.count = augment, images, len(seeds)
        draws = [augment.draw_all(images, torch.Generator().manual_seed(seed)) for seed in seeds]
        mirrored = [draw.mirrored for draw in draws if draw.mirrored is not None]
        self._draws = Moves(torch.cat([draw.shift for draw in draws], 1), torch.cat(mirrored) if mirrored else None)

    def __call__(self, images: Tensor, rows: Tensor, views: Tensor) -> Tensor:
        """uint8 [B, C, H, W]: of the image with the place `rows` [B] in the split, the view `views` [B]."""
        return self._augment.apply(images, self._draws.at(views.cpu() * self._images + rows.cpu()))
