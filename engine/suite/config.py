"""The options of `run.py suite`. Free of torch, since `--help` imports it."""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tailmatch.engine.options import Tracker, above, thread_problems
from tailmatch.errors import UserError, nearest


def suite_names() -> list[str]:
    """The suites that ship with the package."""
    found = (Path(entry.name) for entry in (resources.files("tailmatch.configs") / "suites").iterdir())
    return sorted(path.stem for path in found if path.suffix == ".yaml")


def suite_path(name: str) -> Path:
    """The file of a suite: a path, or the name of one that ships with the package."""
    allowed = suite_names()
    if name.endswith((".yaml", ".yml")) or "/" in name:
        if not Path(name).is_file():
            raise UserError(f"No suite file {name!r}; give the path of a YAML file or one of: {', '.join(allowed)}.")
        return Path(name)
    if name not in allowed:
        raise UserError(
            f"Unknown suite {name!r}.{nearest(name, allowed)} Suites: {', '.join(allowed)}; or give a path."
        )
    return Path(str(resources.files("tailmatch.configs") / "suites" / f"{name}.yaml"))


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """Slurm: what each run asks the cluster for (--engine slurm)."""

    slurm_partition: str | None = None
    """Partition; the cluster's own default otherwise."""
    slurm_time: int = 1440
    """Minutes until a run is cut off; it saves its state and queues again."""
    slurm_gpus: int = 0
    """GPUs of a run, 0 or 1."""
    slurm_cpus: int | None = None
    """Cores of a run; by default as many as --threads, 8 beside a GPU."""
    slurm_memory: int | None = None
    """Memory of a run in GB; the cluster's own default otherwise."""

    def problems(self) -> list[str]:
        given = [name for name in ("slurm_cpus", "slurm_memory") if getattr(self, name) is not None]
        found = above(self, 0, "slurm_time", *given)
        if self.slurm_gpus not in (0, 1):
            found.append(f"slurm_gpus must be 0 or 1 (a run of a suite uses one at most), got {self.slurm_gpus}.")
        return found


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where the runs are computed, and how many at a time."""

    jobs: int | None = None
    """Runs at a time; by default one a GPU, or one for every --threads cores of the CPU."""
    threads: int | None = None
    """CPU threads of each run; by default 1 on the CPU, an equal share of the cores beside a GPU."""
    engine: Literal["local", "slurm"] = "local"
    """Run on this machine, or as a Slurm array."""
    track: tuple[Tracker, ...] = ()
    """Show every run there too, besides TensorBoard: Weights & Biases, MLflow."""
    slurm: tyro.conf.OmitArgPrefixes[SlurmOptions] = SlurmOptions()

    def problems(self) -> list[str]:
        found = above(self, 0, "jobs") if self.jobs is not None else []
        if self.engine == "local":
            found += thread_problems(self.threads)
        elif self.threads is not None:  # Slurm's machines may have more cores than this one
            found += above(self, 0, "threads")
        return found


@dataclass(frozen=True, kw_only=True)
class SuiteConfig(MachineOptions):
    """Run a grid of trainings, as many at a time as fit, and end in a report; the same call goes on with what is left.

    The file of a suite says at its top what it compares and how long it takes. Options after -- go to every run:
    `suite digits_ssl -- --steps 100`. docs/suites.md says how to write one of your own, and `compare` needs none.
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="{" + ",".join(suite_names()) + "}")]
    """The suite: one of these, or a YAML file of your own."""
    words: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[-- OPTIONS OF EVERY RUN]")] = ()
    """Options for every run."""
    out: Path | None = None
    """Folder of the suite's runs and its report; runs/suites/<name> by default."""
    seeds: tuple[int, ...] = ()
    """Seeds in place of the suite's own."""
    tune: bool = True
    """Where the suite says how its methods are tuned (`tune:`), try that many values of each first, and train with the
    best; otherwise with those it gives, as far as published."""
    only: str | None = None
    """Run only these: a pattern for the runs' names, such as '*ikl*' or '*-s0'; what they need runs too."""
    dry_run: bool = False
    """List the runs, their commands and how far each is, and stop. The data are looked at when the suite runs."""

    def problems(self) -> list[str]:
        found = super().problems()
        if len(set(self.seeds)) < len(self.seeds):
            found.append(f"seeds must differ from each other, got {' '.join(map(str, self.seeds))}.")
        return found + stray_problems(self.words)

    @property
    def folder(self) -> Path:
        """Where the suite's runs lie."""
        return self.out or Path("runs") / "suites" / Path(self.name).stem


@dataclass(frozen=True, kw_only=True)
class CompareConfig(MachineOptions):
    """Compare methods: every combination of the values given for a task's options, over several seeds, into a report.

    `compare ssl --algorithm fixmatch flexmatch --loss ce ikl --seeds 3 -- --steps 800` is four methods and twelve runs.
    Any option of the task may have several values (with commas where one value is a list, and the word `default` to
    leave the option out); options after -- go to every run. The same call goes on with what is left.
    """

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="{ssl,longtail,distill}")]
    """What is trained; all of its options may be given here too, with one value or several."""
    seeds: int = 3
    """Number of seeds, 0 to one less."""
    out: Path | None = None
    """Folder of the runs and the report; runs/compare/<what is compared> by default."""
    save: Path | None = None
    """Where to keep what is compared as a suite file, for `suite FILE`; suite.yaml in that folder by default."""
    skip_refused: bool = False
    """Leave out the combinations that have no meaning instead of refusing the call."""
    dry_run: bool = False
    """Say how many runs there are and how long they take, and stop."""

    def problems(self) -> list[str]:
        return super().problems() + above(self, 0, "seeds")


_ABOUT_ONE_RUN = re.compile(r"--(config|out|resume|seed|threads|print-config|dry-run)(=.*)?")


def stray_problems(words: tuple[str, ...]) -> list[str]:
    """What is wrong with options for every run, as a list for `problems`."""
    stray = [word for word in words if _ABOUT_ONE_RUN.fullmatch(word)]
    if not stray:
        return []
    return [f"{stray[0]} is the suite's to give (--out and --seeds are options of `suite` itself)."]
