"""The losses between a student and a teacher as modules, all called alike.

    loss(student_logits_BC, teacher_logits_BC, labels_B, sample_weight=None) -> scalar

A trainer also calls `observe(teacher_logits, labels, sample_weight)` every step and `roll()` at an epoch's end; they do
nothing on a loss without state. `state_dict()` holds all of the state.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from tailmatch.losses.checks import NORMALIZATIONS, check_choice, check_labels, check_number, check_temperature
from tailmatch.losses.class_means import MODES, ClassMeans
from tailmatch.losses.decoupled import decoupled_kl
from tailmatch.losses.divergence import MSE_SPACES, js, kl, mse
from tailmatch.losses.entropies import cross_entropy, soft_cross_entropy
from tailmatch.losses.target_split import dkd

WEIGHTS = ("class", "sample")


class TeacherLoss(nn.Module):
    """A loss of a student's logits against a teacher's; `divergence` is the function behind it."""

    def __init__(self, divergence: Callable[..., Tensor]) -> None:
        super().__init__()
        self.divergence = divergence

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """The mean over the batch [B, C] of each row's loss times its weight [B]."""
        return self.divergence(student_logits, teacher_logits, sample_weight=sample_weight)

    def observe(self, logits: Tensor, labels: Tensor, sample_weight: Tensor | None = None) -> None:
        """Take note of the teacher's predictions; label -1 and weight 0 are passed over. No state: nothing to do."""

    def roll(self) -> None:
        """An epoch has ended. No state: nothing to do."""

    def synchronize(self) -> None:
        """Gather state spread over processes into the first one before it saves. No state: nothing to do."""

    def extra_repr(self) -> str:
        options = self.divergence.keywords if isinstance(self.divergence, partial) else {}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


class KL(TeacherLoss):
    """`kl` as a module."""

    def __init__(self, *, temperature: float = 1.0, detach_teacher: bool = True) -> None:
        check_temperature("temperature", temperature)
        super().__init__(partial(kl, temperature=temperature, detach_teacher=detach_teacher))


class JS(TeacherLoss):
    """`js` as a module."""

    def __init__(self, *, temperature: float = 1.0, detach_teacher: bool = True) -> None:
        check_temperature("temperature", temperature)
        super().__init__(partial(js, temperature=temperature, detach_teacher=detach_teacher))


class MSE(TeacherLoss):
    """`mse` as a module."""

    def __init__(self, *, space: str = "probabilities", temperature: float = 1.0, detach_teacher: bool = True) -> None:
        check_choice("space", space, MSE_SPACES)
        check_temperature("temperature", temperature)
        super().__init__(partial(mse, space=space, temperature=temperature, detach_teacher=detach_teacher))


class SoftCE(TeacherLoss):
    """`soft_cross_entropy` as a module."""

    def __init__(
        self, *, temperature: float = 1.0, teacher_temperature: float | None = None, detach_teacher: bool = True
    ) -> None:
        check_temperature("temperature", temperature)
        check_temperature("teacher_temperature", temperature if teacher_temperature is None else teacher_temperature)
        super().__init__(
            partial(
                soft_cross_entropy,
                temperature=temperature,
                teacher_temperature=teacher_temperature,
                detach_teacher=detach_teacher,
            )
        )


class CE(TeacherLoss):
    """`cross_entropy` of the student with the labels, or with the teacher's most likely class where there are none."""

    def __init__(self) -> None:
        super().__init__(cross_entropy)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        labels = teacher_logits.argmax(-1) if labels is None else labels
        return self.divergence(student_logits, labels, sample_weight=sample_weight)


class DKD(TeacherLoss):
    """`dkd` as a module."""

    def __init__(
        self, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0, detach_teacher: bool = True
    ) -> None:
        check_number("alpha", alpha)
        check_number("beta", beta)
        check_temperature("temperature", temperature)
        super().__init__(partial(dkd, alpha=alpha, beta=beta, temperature=temperature, detach_teacher=detach_teacher))

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        return self.divergence(student_logits, teacher_logits, labels, sample_weight=sample_weight)


class DecoupledLoss(TeacherLoss):
    """`decoupled_kl` as a module, with the class weights it asks for: a row per class, or the sample's own softmax."""

    def __init__(
        self,
        class_means: ClassMeans | None,
        *,
        alpha: float,
        beta: float,
        gamma: float,
        temperature: float,
        teacher_temperature: float | None,
        student_temperature: float | None,
        weight_temperature: float,
        normalize: str,
        symmetric: bool,
        detach_teacher: bool,
    ) -> None:
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            check_number(name, value)
        temperatures = {"teacher_temperature": teacher_temperature, "student_temperature": student_temperature}
        for name, given in (
            {"temperature": temperature, "weight_temperature": weight_temperature} | temperatures
        ).items():
            if given is not None:
                check_temperature(name, given)
        check_choice("normalize", normalize, NORMALIZATIONS)
        divergence = partial(
            decoupled_kl,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            temperature=temperature,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            weight_temperature=weight_temperature,
            normalize=normalize,
            symmetric=symmetric,
            detach_teacher=detach_teacher,
        )
        super().__init__(divergence)
        self.class_means = class_means
        self.gamma = gamma

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        if self.class_means is None:
            return self.divergence(student_logits, teacher_logits, sample_weight=sample_weight)
        rows_BC = self.class_means.rows(check_labels(labels, student_logits), self.gamma)
        return self.divergence(student_logits, teacher_logits, rows_BC, gamma=1.0, sample_weight=sample_weight)

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

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        temperature: float = 1.0,
        teacher_temperature: float | None = None,
        student_temperature: float | None = None,
        weight_temperature: float = 1.0,
        detach_teacher: bool = True,
    ) -> None:
        super().__init__(
            None,
            alpha=alpha,
            beta=beta,
            gamma=1.0,
            temperature=temperature,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            weight_temperature=weight_temperature,
            normalize="batch",
            symmetric=False,
            detach_teacher=detach_teacher,
        )


class IKL(DecoupledLoss):
    """Improved KL: the wMSE term trains the student too, under the mean prediction of the sample's class."""

    def __init__(
        self,
        num_classes: int,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        temperature: float = 1.0,
        teacher_temperature: float | None = None,
        student_temperature: float | None = None,
        weights: str = "class",
        weight_temperature: float = 1.0,
        mode: str = "epoch",
        momentum: float = 0.999,
        detach_teacher: bool = True,
    ) -> None:
        super().__init__(
            _class_means(num_classes, weights, mode, momentum, weight_temperature),
            alpha=alpha,
            beta=beta,
            gamma=1.0,
            temperature=temperature,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            weight_temperature=weight_temperature,
            normalize="batch",
            symmetric=True,
            detach_teacher=detach_teacher,
        )


class GKL(DecoupledLoss):
    """Generalised KL: IKL with the weights to the power gamma and the wMSE divided by sum_b S_b^2."""

    def __init__(
        self,
        num_classes: int,
        *,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.3,
        temperature: float = 1.0,
        teacher_temperature: float | None = None,
        student_temperature: float | None = None,
        weights: str = "class",
        weight_temperature: float = 1.0,
        mode: str = "epoch",
        momentum: float = 0.999,
        normalize: str = "weights",
        detach_teacher: bool = True,
    ) -> None:
        super().__init__(
            _class_means(num_classes, weights, mode, momentum, weight_temperature),
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            temperature=temperature,
            teacher_temperature=teacher_temperature,
            student_temperature=student_temperature,
            weight_temperature=weight_temperature,
            normalize=normalize,
            symmetric=True,
            detach_teacher=detach_teacher,
        )


def _class_means(
    num_classes: int, weights: str, mode: str, momentum: float, weight_temperature: float
) -> ClassMeans | None:
    check_choice("weights", weights, WEIGHTS)
    check_choice("mode", mode, MODES)
    if weights == "sample":
        return None
    return ClassMeans(num_classes, mode=mode, momentum=momentum, temperature=weight_temperature)
