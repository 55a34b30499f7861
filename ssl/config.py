"""The options of `run.py ssl`. Free of torch, since `--help` imports it.

An option that is None takes the value of the algorithm's preset or of the data set; `resolve.resolved` fills it in.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tailmatch.datasets.catalog import STORE, defaults_of
from tailmatch.engine.options import CallOptions, OptimOptions, RunOptions, at_least
from tailmatch.engine.part_options import (
    PartOptions,
    SeveralParts,
    WithOptions,
    one_of,
    value_problems,
    with_groups,
    with_options,
)
from tailmatch.errors import unknown_name
from tailmatch.losses.catalog import LOSSES
from tailmatch.models.catalog import model_problems
from tailmatch.models.options import InitOptions
from tailmatch.ssl.catalog import ACCEPTANCES, ADD_ONS, ALIGNMENTS, CHOSEN, OPTIONS, TARGETS
from tailmatch.ssl.data_options import DataOptions
from tailmatch.ssl.presets import PRESETS, STUDENT_VIEWS, TEACHERS


@dataclass(frozen=True, kw_only=True)
@with_options(**CHOSEN)
class AlgorithmOptions(WithOptions):
    """The algorithm, and its parts where they differ from the published ones."""

    algorithm: Annotated[str, one_of(PRESETS)] = "fixmatch"
    """Which published algorithm to compose."""
    model: str | None = None
    """Network, such as wrn-28-2; by default the one the data set is usually trained with."""
    teacher: Annotated[str | None, one_of(TEACHERS)] = None
    """Who makes the pseudo-labels: the network itself or its moving average."""
    targets: Annotated[str | None, one_of(TARGETS)] = None
    """What they are: the most likely class, the whole prediction, or a sharpened one."""
    student_view: Annotated[str | None, one_of(STUDENT_VIEWS)] = None
    """What is trained to agree with them: a strong view, another weak one, or the very view they come from."""
    acceptance: Annotated[str | None, one_of(ACCEPTANCES)] = None
    """Which of them count."""
    alignment: Annotated[str | None, one_of(ALIGNMENTS)] = None
    """What they look like together: as they are, like the labelled predictions, or judged as if classes were even."""
    unlabeled_weight: float | None = None
    """Weight of the consistency loss (lambda)."""
    unlabeled_warmup: float | None = None
    """Share of the run over which that weight rises from 0."""

    def problems(self) -> list[str]:
        found = [] if self.unlabeled_weight is None else at_least(self, 0, "unlabeled_weight")
        if self.unlabeled_warmup is not None and not 0 <= self.unlabeled_warmup <= 1:
            found.append(f"unlabeled_warmup must lie in [0, 1], got {self.unlabeled_warmup}.")
        found += value_problems(OPTIONS, self.given(OPTIONS))
        choices = {"algorithm": PRESETS, "teacher": TEACHERS, "student_view": STUDENT_VIEWS, **CHOSEN}
        for name, value in self.given(choices).items():
            if value not in choices[name]:
                found.append(str(unknown_name(name.replace("_", " "), value, choices[name])))
        return found + model_problems(self.model)


@dataclass(frozen=True, kw_only=True)
@with_groups(ADD_ONS)
class AddOnOptions(SeveralParts):
    """Methods for long tails, on top of any algorithm, and their constants."""

    kind, catalog = "add-on", ADD_ONS

    name: Annotated[
        tuple[str, ...], tyro.conf.arg(name="add-on", prefix_name=False, metavar="[{" + ",".join(ADD_ONS) + "} ...]")
    ] = ()
    """Which of them, in this order."""

    @property
    def networks(self) -> int:
        """How many are trained one after another."""
        return self.crest.generations if "crest" in self.name and self.crest.restart is not False else 1


AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
@with_options(name=LOSSES)
class ConsistencyOptions(PartOptions):
    """The consistency loss, and its own options; losses/README.md says which loss has which."""

    kind, catalog = "loss", LOSSES

    name: Annotated[str, one_of((AUTO, *LOSSES), name="loss", prefix_name=False)] = AUTO
    """Which loss of the shared module; auto is the algorithm's own."""

    def problems(self) -> list[str]:
        return [] if self.name == AUTO else super().problems()


def _optimisation(dataset: str) -> OptimOptions:
    return OptimOptions.usual(defaults_of(dataset, "ssl"))


@dataclass(frozen=True, kw_only=True)
class SSLConfig:
    """Learn from few labels: FixMatch and its family, with any consistency loss of the shared module."""

    data: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    algorithm: tyro.conf.OmitArgPrefixes[AlgorithmOptions] = field(default_factory=AlgorithmOptions)
    add_on: AddOnOptions = field(default_factory=AddOnOptions)
    loss: ConsistencyOptions = field(default_factory=ConsistencyOptions)
    init: tyro.conf.OmitArgPrefixes[InitOptions] = field(default_factory=InitOptions)
    optim: tyro.conf.OmitArgPrefixes[OptimOptions] = field(default_factory=lambda: _optimisation(DataOptions.dataset))
    run: tyro.conf.OmitArgPrefixes[RunOptions] = field(default_factory=RunOptions)
    call: tyro.conf.OmitArgPrefixes[CallOptions] = field(default_factory=CallOptions)

    @classmethod
    def suited_to(cls, dataset: str) -> "SSLConfig":
        """The defaults for a data set: its published optimisation, or ours where there is none."""
        return cls(optim=_optimisation(dataset))

    def stores(self) -> dict[Path, tuple[str, ...]]:
        """The feature stores that are read, and the kinds of views."""
        root = self.data.data_root
        return {} if self.data.dataset != STORE or root is None else {root: ("plain", "weak", "strong")}

    def problems(self) -> list[str]:
        if self.run.eval_every != "epoch":
            return []
        return [
            "eval_every epoch is for longtail and distill: semi-supervised runs count steps alone; give their number."
        ]
