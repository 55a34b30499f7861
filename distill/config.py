"""The options of `run.py distill`. Free of torch, since `--help` imports it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from tailmatch.datasets.catalog import STORE, defaults_of, root_problems
from tailmatch.distill.catalog import ALONE, METHODS
from tailmatch.distill.data_options import DataOptions
from tailmatch.distill.features.catalog import FEATURE_METHODS
from tailmatch.distill.options import EpochOptions, TeacherOptions, stores_read
from tailmatch.engine.options import CallOptions, RunOptions, at_least
from tailmatch.engine.part_options import PartOptions, one_of, with_options
from tailmatch.errors import unknown_name
from tailmatch.models.catalog import model_problems
from tailmatch.models.options import InitOptions


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The student."""

    model: Annotated[str | None, tyro.conf.arg(aliases=["--student"])] = None
    """Network to train, such as resnet20; by default the one the data set is usually trained with."""

    def problems(self) -> list[str]:
        return model_problems(self.model)


@dataclass(frozen=True, kw_only=True)
@with_options(name=METHODS)
class MethodOptions(PartOptions):
    """How the student learns from its teacher, and the method's own options; distill/README.md says which has which."""

    kind, catalog = "method", METHODS

    name: Annotated[str, one_of((ALONE, *METHODS), name="method", prefix_name=False)] = "ikl"
    """What compares the two; none trains the student alone."""

    def problems(self) -> list[str]:
        if self.name == ALONE:
            return [f"--method none has no option {name!r}; name a method." for name in self.given()]
        if self.name not in METHODS:
            return [str(unknown_name("method", self.name, (ALONE, *METHODS)))]
        return super().problems()


@dataclass(frozen=True, kw_only=True)
class DistillationOptions(TeacherOptions):
    """Distillation: a teacher, frozen, that the method compares the student with."""

    label_weight: float | None = None
    """Weight of the loss against the labels; by default 1, or as published for the method."""
    kd_warmup_epochs: float | None = None
    """The weight of the loss against the teacher rises over so many epochs; by default 0, or as published."""
    logit_std: bool = False
    """Compare the z-scores of the two networks' logits instead of the logits (logit standardisation)."""
    baseline: bool | None = None
    """Train the student without its teacher too, in a run of its own, and show both; by default where the teacher is
    trained first."""

    def problems(self) -> list[str]:
        given = [name for name in ("label_weight", "kd_warmup_epochs") if getattr(self, name) is not None]
        return super().problems() + at_least(self, 0, *given)


def _optimisation(dataset: str) -> EpochOptions:
    """What is usual of a data set, but for what depends on the run's other options (see `resolve`)."""
    return replace(EpochOptions.usual(defaults_of(dataset, "distill")), epochs=None, warmup=None)


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Learn from a teacher: logits through any loss of the shared module; or train a network alone, to be one."""

    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    network: tyro.conf.OmitArgPrefixes[NetworkOptions] = field(default_factory=NetworkOptions)
    method: MethodOptions = field(default_factory=MethodOptions)
    distillation: tyro.conf.OmitArgPrefixes[DistillationOptions] = field(default_factory=DistillationOptions)
    init: tyro.conf.OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    optim: tyro.conf.OmitArgPrefixes[EpochOptions] = field(default_factory=lambda: _optimisation(DataOptions.dataset))
    run: tyro.conf.OmitArgPrefixes[RunOptions] = field(default_factory=RunOptions)
    call: tyro.conf.OmitArgPrefixes[CallOptions] = field(default_factory=CallOptions)

    @classmethod
    def suited_to(cls, dataset: str) -> "DistillConfig":
        """The defaults for a data set: its published optimisation, or ours where there is none."""
        return cls(optim=_optimisation(dataset))

    @property
    def student(self) -> str | None:
        """The network."""
        return self.network.model

    @property
    def distills(self) -> bool:
        """Whether a teacher takes part."""
        return self.method.name != ALONE

    def alone(self) -> "DistillConfig":
        """The same without a teacher."""
        return replace(self, method=MethodOptions(name=ALONE), distillation=DistillationOptions())

    def stores(self) -> dict[Path, tuple[str, ...]]:
        """The feature stores that are read, and the kinds of views."""
        return stores_read(self.data, self.distillation)

    def problems(self) -> list[str]:
        # A recipe of a pair names its teacher, whichever of its networks is trained by it.
        named = {"teacher", "teacher_weights"} if self.distillation.is_published else {"teacher"}
        idle = [f"--{name.replace('_', '-')}" for name in self.distillation.changed() if name not in named]
        found = root_problems(self.data.dataset, self.data.data_root)
        if not self.distills and idle:
            found.append(f"{', '.join(idle)}: for learning from a teacher; name a method of it, as --method kd.")
        return found + self._problems_of_features()

    def _problems_of_features(self) -> list[str]:
        """What a method that compares features cannot do."""
        name, given = self.method.name, self.distillation
        if name not in FEATURE_METHODS:
            return []
        needs = f"--method {name} compares what the layers of two networks make of images"
        found = []
        if self.data.dataset == STORE:
            found.append(f"{needs}, and a feature store has none; take a method of logits, as ikl, or the images.")
        if given.teacher_store is not None:
            found.append(f"{needs}, and --teacher-store has the teacher's logits alone; give --teacher-checkpoint.")
        if given.logit_std:
            found.append(f"{needs}, and --logit-std standardises logits; leave it out, or take a method of logits.")
        return found
