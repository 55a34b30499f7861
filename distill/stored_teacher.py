"""A teacher whose logits come from a feature store of the same images: those it holds, or those of a run on it.

The teacher sees the plain view of each image, once, before the first step: so it costs a table and no time of a step.
Images are matched by the digests of their pixels, whatever their order and however the student's tail was cut.

Shape suffixes: N images of a split, C classes, F features.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailmatch.datasets.feature_bank import FeatureBank, open_bank
from tailmatch.datasets.feature_views import FeatureViews
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

    def __init__(self, name: str, train_NC: Tensor, test_NC: Tensor) -> None:
        self.name, self._train, self.test_logits = name, train_NC, test_NC

    def __call__(self, images: Tensor, index_B: Tensor | None) -> Tensor:
        assert index_B is not None, "the images of a step say which ones they are"
        return self._train[index_B]


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
    if options.teacher_checkpoint is None:
        logits = {split: _held(bank, rows[split], images) for split in rows}
        return StoredTeacher(f"logits of {path.name}", logits["train"].to(device), logits["test"].to(device))
    refuse_other_store(options.teacher_checkpoint, bank.store.id, "give its own store as --teacher-store")
    loaded = read_network(
        options.teacher, options.teacher_checkpoint, images.num_classes, bank.size, 1, options.teacher_weights
    )
    network, views = loaded.network.to(device).eval(), FeatureViews(bank, *bank.statistics)
    said = {
        split: over_parts(network, (views.plain(part.to(device)) for part in rows[split].split(EVALUATED_AT_ONCE)))
        for split in rows
    }
    # Tensors made under inference mode may not meet a gradient; their copies may.
    return StoredTeacher(loaded.name, said["train"].clone(), said["test"].clone())


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


def _held(bank: FeatureBank, rows: Tensor, images: Images) -> Tensor:
    """float32 [N, C]: the logits in the store."""
    plan, path = bank.store.plan.logits, bank.store.path
    if plan is None or plan.of != "data" or plan.classes != images.num_classes:
        holds = "no logits" if plan is None else f"logits of {plan.classes:,} classes of its backbone"
        raise UserError(
            f"{path} holds {holds}, and a teacher says something of the {images.num_classes} classes of {images.name}; "
            f"train one on it (`longtail --dataset store --data-root {path}`) and give --teacher-checkpoint RUN too."
        )
    return torch.from_numpy(bank.logits(rows))
