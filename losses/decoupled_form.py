"""The settings of one decoupled KL that its plain and its fused computation share."""

from typing import NamedTuple


class DecoupledForm(NamedTuple):
    """Which of the two terms are wanted, and how the weights and softmaxes are made."""

    soft: bool
    """Whether the soft cross-entropy is wanted."""
    spread: bool
    """Whether the wMSE term is wanted."""
    gamma: float
    teacher_temperature: float
    student_temperature: float
    weight_temperature: float
    symmetric: bool
    """Whether the wMSE term gives the student a gradient."""
