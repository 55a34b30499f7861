"""What the methods that compare features share: what they see of a network, and how they are called.

Shape suffixes here and beside: B images of a step, C channels, H and W of a feature map, D of pooled features.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from tailmatch.errors import UserError
from tailmatch.losses.base import LossModule

One = TypeVar("One")
Other = TypeVar("Other")

STAGES, PREACTIVATIONS = "stages", "preactivations"


class Activations(NamedTuple):
    """What a network makes of a batch, each stage after the stem as [B, C, H, W]."""

    stages: tuple[Tensor, ...]
    preactivations: tuple[Tensor, ...]
    """The same before the stage's activation. Both are empty where the method does not look at them."""
    pooled: Tensor
    """[B, D]: what the classifier receives."""
    logits: Tensor

    def in_float(self) -> "Activations":
        """In float32 at least: in half precision squares and sums lose what the networks differ in."""
        stages, before = (tuple(_float(map_BCHW) for map_BCHW in maps) for maps in self[:2])
        return Activations(stages, before, _float(self.pooled), _float(self.logits))

    def detached(self) -> "Activations":
        stages, before = (tuple(map_BCHW.detach() for map_BCHW in maps) for maps in self[:2])
        return Activations(stages, before, self.pooled.detach(), self.logits.detach())


class FeatureShapes(NamedTuple):
    """The sizes of a network's activations, for one image."""

    stages: tuple[tuple[int, int, int], ...]
    """Channels, height and width of every stage after the stem."""
    pooled: int
    spread: tuple[tuple[Tensor, Tensor] | None, ...]
    """Mean and deviation [C] of each stage's pre-activations, as its BatchNorm has learnt them; None without one."""


class FeatureMethod(LossModule):
    """A loss between what two networks make of the same images.

        method(student, teacher, labels_B, index_B) -> scalar

    Its parameters are trained with the student; nothing has a gradient in the teacher. All state is in `state_dict()`.
    Every process calls it together: the average over processes is the loss of the whole batch.
    """

    looks_at: ClassVar[frozenset[str]] = frozenset()
    """Which of the activations beside the pooled features and the logits: STAGES, PREACTIVATIONS."""

    def __post_init__(self, student: FeatureShapes, teacher: FeatureShapes) -> None:
        super().__post_init__()
        if self.looks_at:
            aligned(student.stages, teacher.stages)

    def forward(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        """The loss, in float32 whatever the networks compute in.

        Args:
            labels: class of each image, [B].
            index: number of each image among the training images, [B].
        """
        with torch.autocast(labels.device.type, enabled=False):
            return self.compare(student.in_float(), teacher.detached().in_float(), labels, index)

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        raise NotImplementedError  # pragma: no cover  (every method has its own)


def aligned(student: Sequence[One], teacher: Sequence[Other]) -> list[tuple[One, Other]]:
    """The stages that belong together, counted from the last where one network has more of them."""
    count = min(len(student), len(teacher))
    if not count:
        raise UserError("A method that compares stages needs a network with one after its stem; take another network.")
    return list(zip(student[-count:], teacher[-count:], strict=True))


def _float(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
