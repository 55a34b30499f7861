"""The options of learning from labels and from a teacher, to every task that does. Free of torch, for `--help`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from tailmatch.engine.options import OptimOptions, above, at_least
from tailmatch.engine.part_options import one_of
from tailmatch.engine.recorded import WEIGHTS_FILES
from tailmatch.errors import unknown_name
from tailmatch.models.catalog import model_problems


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """The teacher, frozen, and what it weighs beside the labels."""

    teacher: str | None = None
    """The teacher's network; a run folder knows its own."""
    teacher_checkpoint: Path | None = None
    """Run folder, .safetensors, or a PyTorch state dict; on the embedded digits a teacher is trained without one."""
    teacher_store: Path | None = None
    """Feature store of the same images: its logits are the teacher's, or with --teacher-checkpoint those of a run on
    it. The teacher sees the plain view of each image."""
    teacher_weights: Annotated[str, one_of(WEIGHTS_FILES)] = "last"
    """Which weights of a run folder: those of its last step, or those that its validation images chose."""
    label_weight: float = 1.0
    """Weight of the loss against the labels."""
    kd_weight: float | None = None
    """Weight of the loss against the teacher; by default 1, or as published for the pair of networks."""
    baseline: bool = False
    """Train the student without its teacher too, in a run of its own, and show both."""

    def changed(self) -> list[str]:
        """The options that are not at their defaults."""
        return [name for name, default in vars(type(self)()).items() if getattr(self, name) != default]

    @property
    def is_there(self) -> bool:
        """Whether the teacher need not be trained first."""
        return self.teacher_checkpoint is not None or self.teacher_store is not None

    def absolute(self) -> Self:
        """With places that a resumed run finds from anywhere."""
        checkpoint, store = (
            path and path.expanduser().absolute() for path in (self.teacher_checkpoint, self.teacher_store)
        )
        return replace(self, teacher_checkpoint=checkpoint, teacher_store=store)

    def problems(self) -> list[str]:
        given = ["label_weight", *([] if self.kd_weight is None else ["kd_weight"])]
        idle = []
        if self.teacher_store is not None and self.teacher_checkpoint is None and self.teacher is not None:
            idle.append(
                "--teacher names the network of --teacher-checkpoint; --teacher-store alone has none, so leave it out."
            )
        return (
            idle
            + at_least(self, 0, *given)
            + model_problems(self.teacher)
            + weights_problems("teacher_weights", self.teacher_weights)
        )


def weights_problems(option: str, weights: str) -> list[str]:
    """What is wrong with the name of a run folder's weights, as a list for `problems`."""
    if weights in WEIGHTS_FILES:
        return []
    if weights == "best-on-test":
        return [
            f"{option} best-on-test are not kept by a run, which does not choose on test images; take last or "
            "selected (as a teacher, a file of such weights will do too: --teacher-checkpoint FILE)."
        ]
    return [str(unknown_name("weights", weights, WEIGHTS_FILES))]


@dataclass(frozen=True, kw_only=True)
class EpochOptions(OptimOptions):
    """Optimisation."""

    epochs: int | None = None
    """Passes over the training images: 60 for digits, 200 for CIFAR, 90 for ImageNet and its kin by default, 10 for a
    second stage. The learning rate moves once in each."""
    warmup: float | None = None  # type: ignore[assignment]  # a number in every resolved configuration
    """Length of the linear warm-up, in epochs: 10 for ImageNet and its kin, 5 for others by default; none in a second
    stage, nor in a run that would end with it."""
    lr_features: float | None = None
    """Peak learning rate of everything but the classifier, where that is another; it follows the same schedule."""
    incomplete_batch: Literal["drop", "keep"] = "drop"
    """The images left over at the end of an epoch: leave them out, or make a smaller batch of them (by default for
    CIFAR-LT, as published)."""

    def problems(self) -> list[str]:
        # The shared checks want a number, and any that could be filled in would pass.
        numbers = self if self.warmup is not None else replace(self, warmup=0.0)
        given = [name for name in ("epochs", "lr_features") if getattr(self, name) is not None]
        found = super(EpochOptions, numbers).problems() + above(self, 0, *given)
        if self.epochs is not None and self.steps is not None:
            found.append(
                f"The length is given twice, by epochs {self.epochs} and steps {self.steps}; give one of them "
                "(--epochs None takes back a recipe's)."
            )
        return found
