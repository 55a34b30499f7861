"""The options of `run.py longtail`. Free of torch, since `--help` imports it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tailmatch.datasets.catalog import defaults_of, root_problems
from tailmatch.distill.options import EpochOptions, TeacherOptions, stores_read, weights_problems
from tailmatch.engine.options import CallOptions, RunOptions, above, at_least
from tailmatch.engine.part_options import PartOptions, WithOptions, described, one_of, value_problems, with_options
from tailmatch.engine.recorded import WEIGHTS_FILES
from tailmatch.errors import unknown_name
from tailmatch.longtail.catalog import SECOND_STAGES
from tailmatch.longtail.data_options import DataOptions
from tailmatch.losses.catalog import LABEL_LOSSES, LOSSES
from tailmatch.models.catalog import HEADS, model_problems
from tailmatch.models.options import InitOptions

NO_LOSS = "none"
Sampler = Literal["instance", "square-root", "class-balanced", "class-aware"]
HEADS_ON_REQUEST = {name: head for name, head in HEADS.items() if head.on_request}


@dataclass(frozen=True, kw_only=True)
@with_options(stage2=SECOND_STAGES)
class MethodOptions(WithOptions):
    """The student and how it learns from the labels."""

    model: Annotated[str | None, tyro.conf.arg(aliases=["--student"])] = None
    """Network to train, such as resnet32; by default the one the data set is usually trained with."""
    head: Annotated[str | None, one_of(HEADS_ON_REQUEST, help=f"Classifier: {described(HEADS_ON_REQUEST)}.")] = None
    train_only: tuple[str, ...] = ()
    """Parts of the network that learn, such as layer4.2 fc; the weights of the rest stay as --init left them, while its
    BatchNorm statistics go on with the training. All of it by default."""
    sampler: Sampler | None = None
    """How often a class is drawn: with its number of images, with the square root of it, all alike, or all alike in
    turn, four images each (class-aware)."""
    drw: float | None = None
    """Deferred re-weighting: the share of the training after which classes weigh by their effective number."""
    post_hoc_tau: float = 0.0
    """Post-hoc logit adjustment: tau log prior is taken off the logits of every evaluation."""
    stage2: Annotated[
        str | None,
        one_of(SECOND_STAGES, help=f"Another classifier for the network of --stage1: {described(SECOND_STAGES)}."),
    ] = None
    stage1: Annotated[Path | None, tyro.conf.arg(aliases=["--from"])] = None
    """Finished run folder whose network the second stage starts from, with the same data and seed."""
    stage1_weights: Annotated[str, one_of(WEIGHTS_FILES)] = "last"
    """Which of its weights: those of its last step, or those that its validation images chose."""

    def of_stage2(self) -> dict[str, Any]:
        """The options of second stages that were set."""
        return self.given(option for stage in SECOND_STAGES.values() for option in stage.options)

    def problems(self) -> list[str]:
        found = at_least(self, 0, "post_hoc_tau")
        for kind, name, known in (("head", self.head, HEADS_ON_REQUEST), ("second stage", self.stage2, SECOND_STAGES)):
            if name is not None and name not in known:
                found.append(str(unknown_name(kind, name, known)))
        if self.drw is not None and not 0 < self.drw < 1:
            found.append(f"drw must lie between 0 and 1, got {self.drw}; 0.8 is epoch 160 of 200.")
        if (self.stage2 is None) != (self.stage1 is None):
            found.append("--stage2 METHOD and --stage1 RUN go together: give both or none.")
        found += weights_problems("stage1_weights", self.stage1_weights)
        if self.stage1_weights != "last" and self.stage1 is None:
            found.append("--stage1-weights chooses the weights of --stage1 RUN; give both or none.")
        if self.stage2 is not None and self.train_only:
            found.append(f"--stage2 {self.stage2} says itself what learns; leave out --train-only.")
        if self.stage2 is not None and self.head is not None:
            found.append(f"--stage2 {self.stage2} makes its own classifier; leave out --head.")
        return found + self._problems_of_stage2() + model_problems(self.model)

    def _problems_of_stage2(self) -> list[str]:
        own = SECOND_STAGES[self.stage2].options if self.stage2 in SECOND_STAGES else {}
        given = self.of_stage2()
        found = value_problems(own, {name: value for name, value in given.items() if name in own})
        for name in given.keys() - own:
            stages = ", ".join(stage for stage, row in SECOND_STAGES.items() if name in row.options)
            elsewhere = any(name in loss.options for loss in LABEL_LOSSES.values())
            hint = f" (of --label-loss: --label-loss.{name})" if elsewhere else ""
            found.append(f"--{name.replace('_', '-')} is an option of --stage2 {stages}{hint}.")
        return found


@dataclass(frozen=True, kw_only=True)
class DistillationOptions(TeacherOptions):
    """Distillation: a teacher, frozen, that the loss compares the student with."""

    label_weight: float = 1.0
    """Weight of the loss against the labels."""
    baseline: bool = False
    """Train the student without its teacher too, in a run of its own, and show both."""
    prior_tau: float = 0.0
    """Compare teacher and student where the student's own logits come out balanced: 1, with a balanced label loss;
    0 compares them as they are."""
    prior_rho: float = 0.0
    """How much of the prior is taken off both before the softmaxes: 0 weighs classes as the teacher does, 1 evenly."""
    prior_weight_rho: float = 0.0
    """With prior_tau, how much of the prior is taken off the class means of ikl and gkl; 0 leaves them as they are."""

    def problems(self) -> list[str]:
        return super().problems() + at_least(self, 0, "label_weight", "prior_tau", "prior_rho", "prior_weight_rho")


@dataclass(frozen=True, kw_only=True)
@with_options(name=LABEL_LOSSES)
class LabelLossOptions(PartOptions):
    """The loss against the labels, and its own options; losses/README.md says which loss has which."""

    kind, catalog = "label loss", LABEL_LOSSES

    name: Annotated[str, one_of(LABEL_LOSSES, name="label-loss", prefix_name=False)] = "cross-entropy"
    """Which hard-label loss of the shared module."""


@dataclass(frozen=True, kw_only=True)
@with_options(name=LOSSES)
class TeacherLossOptions(PartOptions):
    """The loss between student and teacher, and its own options; losses/README.md says which loss has which."""

    kind, catalog = "loss", LOSSES

    name: Annotated[str, one_of((NO_LOSS, *LOSSES), name="loss", prefix_name=False)] = NO_LOSS
    """Which loss of the shared module; none trains without a teacher."""

    @property
    def has_class_means(self) -> bool:
        """Whether it weighs pairs of classes by the mean prediction of a class."""
        return self.name in LOSSES and "weights" in LOSSES[self.name].options and self.weights != "sample"

    def problems(self) -> list[str]:
        if self.name == NO_LOSS:
            return [f"--loss none has no option {name!r}; name a loss." for name in self.given()]
        if self.name not in LOSSES:
            return [str(unknown_name("loss", self.name, (NO_LOSS, *LOSSES)))]
        return super().problems()


@dataclass(frozen=True, kw_only=True)
class LongtailOptim(EpochOptions):
    """Optimisation."""

    lr_features: float | None = None
    """Peak learning rate of everything but the classifier, where that is another; it follows the same schedule."""

    def problems(self) -> list[str]:
        return super().problems() + ([] if self.lr_features is None else above(self, 0, "lr_features"))


def _optimisation(dataset: str) -> LongtailOptim:
    """What is usual of a data set, but for what depends on the run's other options (see `resolve`)."""
    return replace(LongtailOptim.usual(defaults_of(dataset, "longtail")), epochs=None, warmup=None)


@dataclass(frozen=True, kw_only=True)
class LongtailConfig:
    """Learn from a long tail: hard-label losses, samplers and second stages, alone or with a teacher."""

    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    method: tyro.conf.OmitArgPrefixes[MethodOptions] = field(default_factory=MethodOptions)
    label_loss: LabelLossOptions = field(default_factory=LabelLossOptions)
    init: tyro.conf.OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    distillation: tyro.conf.OmitArgPrefixes[DistillationOptions] = field(default_factory=DistillationOptions)
    loss: TeacherLossOptions = field(default_factory=TeacherLossOptions)
    optim: tyro.conf.OmitArgPrefixes[LongtailOptim] = field(default_factory=lambda: _optimisation(DataOptions.dataset))
    run: tyro.conf.OmitArgPrefixes[RunOptions] = field(default_factory=RunOptions)
    call: tyro.conf.OmitArgPrefixes[CallOptions] = field(default_factory=CallOptions)

    @classmethod
    def suited_to(cls, dataset: str) -> "LongtailConfig":
        """The defaults for a data set: its published optimisation, or ours where there is none."""
        return cls(optim=_optimisation(dataset))

    @property
    def student(self) -> str | None:
        """The network."""
        return self.method.model

    @property
    def distills(self) -> bool:
        """Whether a teacher takes part."""
        return self.loss.name != NO_LOSS

    def alone(self) -> "LongtailConfig":
        """The same without a teacher."""
        return replace(self, distillation=DistillationOptions(), loss=TeacherLossOptions())

    def stores(self) -> dict[Path, tuple[str, ...]]:
        """The feature stores that are read, and the kinds of views."""
        return stores_read(self.data, self.distillation)

    def problems(self) -> list[str]:
        teacher, found = self.distillation, []
        given = [f"--{name.replace('_', '-')}" for name in teacher.changed()]
        if not self.distills and given:
            found.append(
                f"{', '.join(given)}: for a loss against a teacher, and none is given; name one, as --loss kl."
            )
        if self.distills and teacher.prior_weight_rho != 0:
            if teacher.prior_tau == teacher.prior_rho == 0:
                found.append("--prior-weight-rho acts beside --prior-tau or --prior-rho; give one of them as well.")
            elif not self.loss.has_class_means:
                found.append(
                    f"--prior-weight-rho acts on class means, and --loss {self.loss.name} has none; leave it out."
                )
        if self.method.stage1 is None:  # else the data set is the first stage's, and only its place may be said
            found += root_problems(self.data.dataset, self.data.data_root)
        return found + self._idle_with_the_method()

    def _idle_with_the_method(self) -> list[str]:
        """What the way of learning from the labels leaves without an effect."""
        method, label_loss, found = self.method, self.label_loss.name, []
        if method.stage2 is not None and self.init.init is not None:
            found.append(f"--stage2 {method.stage2} starts from the network of --stage1; leave out --init.")
        if method.stage2 is not None and self.optim.lr_features is not None:
            found.append(f"--stage2 {method.stage2} leaves the features as they are; leave out --lr-features.")
        if method.stage2 is not None and self.distills:
            found.append(f"--stage2 {method.stage2} learns without a teacher; leave out --loss {self.loss.name}.")
        stage = SECOND_STAGES.get(method.stage2 or "")
        if stage and not stage.trains and (method.drw is not None or label_loss != LabelLossOptions().name):
            found.append(f"--stage2 {method.stage2} trains nothing; leave out --label-loss and --drw.")
        if method.drw is not None and label_loss == "class-balanced":
            found.append(
                "--label-loss class-balanced weighs the classes from the start, and --drw is to weigh them later; "
                "give one of the two."
            )
        return found
