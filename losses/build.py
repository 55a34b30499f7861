"""Losses by name, as the command line asks for them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tailmatch.declare import build
from tailmatch.losses.catalog import LABEL_LOSSES, LOSSES
from tailmatch.losses.label_modules import LabelLoss
from tailmatch.losses.modules import TeacherLoss


def build_loss(name: str, num_classes: int, **options: Any) -> TeacherLoss:
    """The loss `name` of a student against a teacher; see `LOSSES` for names and options.

    Raises UserError, with the nearest allowed name, for an unknown name or option, and for a value out of range.
    """
    loss: TeacherLoss = build("loss", name, LOSSES, {"num_classes": num_classes}, options)
    return loss


def build_label_loss(name: str, class_counts: Tensor | Sequence[int], **options: Any) -> LabelLoss:
    """The hard-label loss `name` for classes with these numbers of training images; see `LABEL_LOSSES`.

    Raises UserError, with the nearest allowed name, for an unknown name or option, and for a value out of range.
    """
    loss: LabelLoss = build("label loss", name, LABEL_LOSSES, {"class_counts": class_counts}, options)
    return loss
