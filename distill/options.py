"""The options of learning from labels and from a teacher, to every task that does. Free of torch, for `--help`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from tailmatch.datasets.catalog import STORE
from tailmatch.engine.options import OptimOptions, above, at_least
from tailmatch.engine.part_options import one_of
from tailmatch.engine.recorded import WEIGHTS_FILES
from tailmatch.errors import unknown_name
from tailmatch.models.catalog import model_problems
from tailmatch.models.options import TORCHVISION


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """The teacher, frozen."""

    teacher: str | None = None
    """The teacher's network; a run folder knows its own."""
    teacher_checkpoint: Path | None = None
    """Run folder, .safetensors, or a PyTorch state dict; on the embedded digits a teacher is trained without one."""
    teacher_store: Path | None = None
    """Feature store of the same images: its logits are the teacher's, or with --teacher-checkpoint those of a run on
    it. Students on images see its weak views, where it has any, with what the teacher said of them."""
    teacher_weights: Annotated[str, one_of([*WEIGHTS_FILES, TORCHVISION])] = "last"
    """Which weights: of a run folder those of its last step, or those that its validation images chose; without one,
    those that torchvision publishes of --teacher (torchvision:IMAGENET1K_V1 says which)."""
    kd_weight: float | None = None
    """Weight of the loss against the teacher; by default 1, or as published for the pair of networks."""

    def changed(self) -> list[str]:
        """The options that are not at their defaults."""
        return [name for name, default in vars(type(self)()).items() if getattr(self, name) != default]

    @property
    def is_there(self) -> bool:
        """Whether the teacher need not be trained first."""
        return self.teacher_checkpoint is not None or self.teacher_store is not None or self.is_published

    @property
    def is_published(self) -> bool:
        """Whether the weights are those that torchvision publishes."""
        return self.teacher_weights.partition(":")[0] == TORCHVISION

    def absolute(self) -> Self:
        """With places that a resumed run finds from anywhere."""
        checkpoint, store = (
            path and path.expanduser().absolute() for path in (self.teacher_checkpoint, self.teacher_store)
        )
        return replace(self, teacher_checkpoint=checkpoint, teacher_store=store)

    def problems(self) -> list[str]:
        idle = []
        if self.teacher_store is not None and self.teacher_checkpoint is None and self.teacher is not None:
            idle.append(
                "--teacher names the network of --teacher-checkpoint; --teacher-store alone has none, so leave it out."
            )
        found = (
            idle + at_least(self, 0, *([] if self.kd_weight is None else ["kd_weight"])) + model_problems(self.teacher)
        )
        if not self.is_published:
            return found + weights_problems("teacher_weights", self.teacher_weights, (*WEIGHTS_FILES, TORCHVISION))
        if self.teacher is None or self.teacher_checkpoint is not None or self.teacher_store is not None:
            found.append(
                f"teacher_weights {self.teacher_weights} are torchvision's of a network by its name; give --teacher, "
                "as in --teacher resnet34, without --teacher-checkpoint and --teacher-store (--teacher-weights last "
                "takes back a recipe's)."
            )
        return found


def weights_problems(option: str, weights: str, known: Iterable[str] = tuple(WEIGHTS_FILES)) -> list[str]:
    """What is wrong with the name of a run folder's weights, as a list for `problems`."""
    if weights in WEIGHTS_FILES:
        return []
    if weights == "best-on-test":
        return [
            f"{option} best-on-test are not kept by a run, which does not choose on test images; take last or "
            "selected (as a teacher, a file of such weights will do too: --teacher-checkpoint FILE)."
        ]
    return [str(unknown_name("weights", weights, known))]


@dataclass(frozen=True, kw_only=True)
class EpochOptions(OptimOptions):
    """Optimisation."""

    epochs: int | None = None
    """Passes over the training images; by default what is usual of the data set, 10 for a second stage. The learning
    rate moves once in each."""
    warmup: float | None = None  # type: ignore[assignment]  # a number in every resolved configuration
    """Length of the linear warm-up, in epochs; by default what is usual of the data set, none in a second stage, nor in
    a run that would end with it."""
    incomplete_batch: Literal["drop", "keep"] = "drop"
    """The images left over at the end of an epoch: leave them out, or make a smaller batch of them (by default for
    CIFAR, where published)."""

    def problems(self) -> list[str]:
        # The shared checks want a number, and any that could be filled in would pass.
        numbers = self if self.warmup is not None else replace(self, warmup=0.0)
        found = super(EpochOptions, numbers).problems()
        found += [] if self.epochs is None else above(self, 0, "epochs")
        if self.epochs is not None and self.steps is not None:
            found.append(
                f"The length is given twice, by epochs {self.epochs} and steps {self.steps}; give one of them "
                "(--epochs None takes back a recipe's)."
            )
        return found


def stores_read(data: Any, teacher: TeacherOptions) -> dict[Path, tuple[str, ...]]:
    """The feature stores of a run, and the kinds of views that it reads of each."""
    found: dict[Path, tuple[str, ...]] = {} if teacher.teacher_store is None else {teacher.teacher_store: ("plain",)}
    is_store = data.dataset == STORE and data.data_root is not None
    return found | ({data.data_root: ("plain", data.train_view)} if is_store else {})
