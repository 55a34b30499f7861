"""Losses by name, as the command line asks for them."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import Tensor

from tailmatch.errors import unknown_name
from tailmatch.losses.catalog import LABEL_LOSSES, LOSSES, LossRow
from tailmatch.losses.label_modules import LabelLoss
from tailmatch.losses.modules import TeacherLoss


def build_loss(name: str, num_classes: int, **options: Any) -> TeacherLoss:
    """The loss `name` of a student against a teacher; see `LOSSES` for names and options.

    Raises UserError, with the nearest allowed name, for an unknown name or option, and for a value out of range.
    """
    row = _row("loss", name, LOSSES, options)
    first = (num_classes,) if row.takes_num_classes else ()
    loss: TeacherLoss = _class_of(row)(*first, **options)
    return loss


def build_label_loss(name: str, class_counts: Tensor | Sequence[int], **options: Any) -> LabelLoss:
    """The hard-label loss `name` for classes with these numbers of training images; see `LABEL_LOSSES`.

    Raises UserError, with the nearest allowed name, for an unknown name or option, and for a value out of range.
    """
    row = _row("label loss", name, LABEL_LOSSES, options)
    loss: LabelLoss = _class_of(row)(class_counts, **options)
    return loss


def _row(kind: str, name: str, rows: dict[str, LossRow], options: dict[str, Any]) -> LossRow:
    if name not in rows:
        raise unknown_name(kind, name, rows)
    for option in options:
        if option not in rows[name].options:
            raise unknown_name(f"option of {kind} {name!r}", option, rows[name].options)
    return rows[name]


def _class_of(row: LossRow) -> Any:
    file, name = row.target.split(":")
    return getattr(import_module(f".{file}", __package__), name)
