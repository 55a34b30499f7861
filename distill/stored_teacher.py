"""A teacher whose logits come from a feature store of the same images: those it holds, or those of a run on it.

All that it will say is known before the first step, so it costs a table and no time of a step. A student on images
that lie in memory sees the very weak views that the store has, one of them drawn for each image at every step, and is
given what the teacher said of that view: the loss is a live teacher's, up to the store's rounding (half precision of
the logits, and bf16 of the network unless `embed --precision fp32`). A student on a store, and one whose teacher's
store has plain views alone, is given what the teacher said of the plain view.

Images are matched by the digests of their pixels, whatever their order and however the student's tail was cut.

Shape suffixes: N images of a split, V views, B images of a step, C classes, F features.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailmatch.datasets.feature_bank import FeatureBank, open_bank
from tailmatch.datasets.seeded_views import SeveralWeakViews
from tailmatch.datasets.weak_augment import WeakAugment
from tailmatch.distill.images import EVALUATED_AT_ONCE, Images
from tailmatch.distill.options import TeacherOptions
from tailmatch.distill.teacher import read_network, refuse_other_store
from tailmatch.engine.evaluation import over_parts
from tailmatch.errors import UserError

Digests = NDArray[np.uint8]


class StoredTeacher:
    """Logits that are known before the training, of each training and test image.

    Attributes:
        test_logits: [N, C].
    """

    def __init__(self, name: str, train_NVC: Tensor, test_NC: Tensor) -> None:
        self.name, self._train, self.test_logits = name, train_NVC, test_NC

    def __call__(self, images: Tensor, index: Tensor | None) -> Tensor:
        """The logits [B, C] of training images by their numbers [B], or by these with their views [B, 2]."""
        assert index is not None, "the images of a step say which ones they are"
        return self._train[index, 0] if index.ndim == 1 else self._train[index[:, 0], index[:, 1]]


def stored_teacher(options: TeacherOptions, images: Images, device: torch.device) -> StoredTeacher:
    """The teacher of `--teacher-store`.

    Raises:
        UserError: if the store is not of the student's images and classes, or has no logits of these classes.
    """
    assert options.teacher_store is not None
    bank = open_bank(options.teacher_store)
    path = bank.store.path
    if bank.store.class_names != images.class_names:
        raise UserError(f"{path} is of other classes than {images.name}, or has them in another order.")
    rows = {split: _matched(bank, images.digests(split), images.name, split) for split in ("train", "test")}
    name, say = _speaker(options, images, bank, device)
    kind, count = "plain", 1
    if (views := _weak_views(bank, images, rows["train"])) is not None:
        kind, count = "weak", views.count
        images.train_on(views, rows["train"])
    train_NVC = torch.stack([say(rows["train"], kind, view) for view in range(count)], 1)
    return StoredTeacher(name, train_NVC.to(device), say(rows["test"], "plain", 0).to(device))


def _speaker(
    options: TeacherOptions, images: Images, bank: FeatureBank, device: torch.device
) -> tuple[str, Callable[[Tensor, str, int], Tensor]]:
    """The teacher's name, and what it says [N, C] of a view of the store's rows [N]."""
    if options.teacher_checkpoint is None:
        _refuse_other_logits(bank, images)
        name = f"logits of {bank.store.path.name}"
        return name, lambda rows, kind, view: torch.from_numpy(bank.logits(rows, kind, view))
    refuse_other_store(options.teacher_checkpoint, bank.store.id, "give its own store as --teacher-store")
    loaded = read_network(
        options.teacher, options.teacher_checkpoint, images.num_classes, bank.size, 1, options.teacher_weights
    )
    network = loaded.network.to(device).eval()

    def say(rows: Tensor, kind: str, view: int) -> Tensor:
        parts = rows.to(device).split(EVALUATED_AT_ONCE)
        said = over_parts(network, (bank.standardised(part, kind, torch.full_like(part, view)) for part in parts))
        return said.clone()  # a tensor made under inference mode may not meet a gradient; its copy may

    return loaded.name, say


def _weak_views(bank: FeatureBank, images: Images, rows: Tensor) -> SeveralWeakViews | None:
    """The weak views in the store, as a student on images makes them; None for one that cannot or need not.

    Raises:
        UserError: if the student's images have another size than those that the views were made of.
    """
    stored, about = bank.store["train"], bank.store.card["about"]
    if images.features is not None or not stored.views.get("weak") or "augmentation" not in about:
        return None
    size = about["augmentation"]["image_size"]
    if size != images.image_size:
        raise UserError(
            f"{bank.store.path} has views of {size} x {size} pixels, and the images of {images.name} have "
            f"{images.image_size}; make a store of them as they are."
        )
    if int(rows.max()) >= len(stored):  # images that the store tests on: it has plain views of these alone
        return None
    return SeveralWeakViews(WeakAugment(**about["augmentation"]["weak"]), len(stored), stored.seeds["weak"])


def _matched(bank: FeatureBank, digests: Digests, name: str, split: str) -> Tensor:
    """int64 [N] the rows of the store that hold these images."""
    of_store = [rows for split in bank.store.splits if (rows := bank.rows(split)) is not None]
    rows = torch.cat(of_store)
    known = _as_words(bank.digests(rows))
    order = np.argsort(known, kind="stable")
    wanted = _as_words(digests)
    place = order[np.searchsorted(known, wanted, sorter=order).clip(max=len(order) - 1)]
    missing = int((known[place] != wanted).sum())
    if missing:
        raise UserError(
            f"{bank.store.path} is not of the images of {name}: {missing:,} of its {len(wanted):,} {split} images are "
            f"not in that store; make one of the same images."
        )
    return rows[torch.from_numpy(place)]


def _as_words(digests: Digests) -> NDArray[np.bytes_]:
    """[N] each digest as one value that can be sorted (its bytes in hexadecimal: trailing zeros would be cut off)."""
    return np.array([row.tobytes().hex() for row in digests], dtype="S32")


def _refuse_other_logits(bank: FeatureBank, images: Images) -> None:
    """Raises UserError unless the store holds logits of the student's classes."""
    plan, path = bank.store.plan.logits, bank.store.path
    if plan is None or plan.of != "data" or plan.classes != images.num_classes:
        holds = "no logits" if plan is None else f"logits of {plan.classes:,} classes of its backbone"
        raise UserError(
            f"{path} holds {holds}, and a teacher says something of the {images.num_classes} classes of {images.name}; "
            f"train one on it (`longtail --dataset store --data-root {path}`) and give --teacher-checkpoint RUN too."
        )
