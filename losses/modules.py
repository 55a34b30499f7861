"""The losses between a student and a teacher as modules, all called alike.

    loss(student_logits_BC, teacher_logits_BC, labels_B, sample_weight=None) -> scalar

A trainer also calls `observe(teacher_logits, labels, sample_weight)` every step and `roll()` at an epoch's end; they do
nothing on a loss without state. `state_dict()` holds all of the state.
"""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import unwrap

from torch import Tensor

from tailmatch.errors import UserError
from tailmatch.losses.base import LossModule
from tailmatch.losses.catalog import (
    CEOptions,
    DKDOptions,
    DKLOptions,
    GKLOptions,
    IKLOptions,
    JSOptions,
    KLOptions,
    MSEOptions,
    SoftCEOptions,
)
from tailmatch.losses.checks import check_labels
from tailmatch.losses.class_means import ClassMeans
from tailmatch.losses.decoupled import decoupled_kl
from tailmatch.losses.divergence import js, kl, mse, soft_cross_entropy
from tailmatch.losses.entropies import cross_entropy
from tailmatch.losses.target_split import dkd

OF_CLASS_MEANS = ("weights", "mode", "momentum")


class TeacherLoss(LossModule):
    """A loss of a student's logits against a teacher's; `divergence` is the function behind it."""

    divergence: Callable[..., Tensor]

    def __init__(self, divergence: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        if divergence is not None:
            self.divergence = divergence

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """The mean over the batch [B, C] of each row's loss times its weight [B]."""
        more = self.beside_the_logits(labels)
        return self.divergence(student_logits, teacher_logits, *more, sample_weight=sample_weight, **self.options())

    def beside_the_logits(self, labels: Tensor | None) -> Sequence[Tensor | None]:
        """What the function takes after them."""
        return ()

    def observe(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> None:
        """Take note of the teacher's predictions; label -1 and weight 0 are passed over. No state: nothing to do."""

    def roll(self) -> None:
        """An epoch has ended. No state: nothing to do."""

    def synchronize(self) -> None:
        """Gather state spread over processes into the first one before it saves. No state: nothing to do."""


class Around(TeacherLoss):
    """A loss that changes what another one sees of the logits. All state is that of the one within."""

    def __init__(self, loss: TeacherLoss) -> None:
        super().__init__()
        self.loss = loss

    def roll(self) -> None:
        self.loss.roll()

    def synchronize(self) -> None:
        self.loss.synchronize()


class KL(KLOptions, TeacherLoss):
    """`kl` as a module."""

    divergence = staticmethod(unwrap(kl))


class JS(JSOptions, TeacherLoss):
    """`js` as a module."""

    divergence = staticmethod(unwrap(js))


class MSE(MSEOptions, TeacherLoss):
    """`mse` as a module."""

    divergence = staticmethod(unwrap(mse))


class SoftCE(SoftCEOptions, TeacherLoss):
    """`soft_cross_entropy` as a module."""

    divergence = staticmethod(unwrap(soft_cross_entropy))


class CE(CEOptions, TeacherLoss):
    """`cross_entropy` of the student with the labels, or with the teacher's most likely class where there are none."""

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        labels = teacher_logits.argmax(-1) if labels is None else labels
        return cross_entropy(student_logits, labels, sample_weight=sample_weight)


class DKD(DKDOptions, TeacherLoss):
    """`dkd` as a module."""

    divergence = staticmethod(unwrap(dkd))

    def beside_the_logits(self, labels: Tensor | None) -> Sequence[Tensor | None]:
        return (labels,)


class DecoupledLoss(DKLOptions, TeacherLoss):
    """`decoupled_kl` as a module, with the class weights it asks for: a row per class, or the sample's own softmax."""

    divergence = staticmethod(unwrap(decoupled_kl))
    class_means: ClassMeans | None

    def __post_init__(self, num_classes: int | None = None) -> None:
        super().__post_init__()
        if self.detach_teacher and not self.detach_weights:
            raise UserError(
                "The class weights have a gradient where the teacher has one: give detach_teacher=False as well, or "
                "leave out detach_weights=False."
            )
        self.class_means = None
        if isinstance(self, IKLOptions) and self.weights == "class":
            assert num_classes is not None, "the constructor of IKLOptions asks for it"
            settings = {"mode": self.mode, "momentum": self.momentum, "temperature": self.weight_temperature}
            self.class_means = ClassMeans(num_classes, **settings)  # type: ignore[arg-type]

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        options = {name: value for name, value in self.options().items() if name not in OF_CLASS_MEANS}
        rows_BC = None
        if self.class_means is not None:
            rows_BC = self.class_means.rows(check_labels(labels, student_logits), options.pop("gamma", 1.0))
        return self.divergence(student_logits, teacher_logits, rows_BC, sample_weight=sample_weight, **options)

    def observe(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> None:
        if self.class_means is not None:
            self.class_means.observe(logits, labels, sample_weight)

    def roll(self) -> None:
        if self.class_means is not None:
            self.class_means.roll()

    def synchronize(self) -> None:
        if self.class_means is not None:
            self.class_means.synchronize()


class DKL(DecoupledLoss):
    """Decoupled KL: the wMSE term trains only the teacher's side, as KL itself does (arXiv 2305.13948, Theorem 1).

    With a detached teacher nothing of the wMSE term is left but its value, and the student learns from the soft
    cross-entropy alone. With `detach_teacher=False` and alpha = beta = 1 the gradients are those of KL, on both sides.
    """

    divergence = staticmethod(partial(unwrap(decoupled_kl), symmetric=False))


class IKL(IKLOptions, DecoupledLoss):
    """Improved KL: the wMSE term trains the student too, under the mean prediction of the sample's class."""


class GKL(GKLOptions, DecoupledLoss):
    """Generalised KL: IKL with the weights to the power gamma and the wMSE divided by sum_b S_b^2."""
