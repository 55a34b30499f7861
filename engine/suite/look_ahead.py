"""What a suite finds out before its first run starts: whether every run can be built. Free of torch.

Building reads the data and makes the network, in a process of its own (rehearsal.py): once for each kind of run, as
seeds and losses change neither.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tailmatch.engine.config import to_yaml
from tailmatch.engine.suite.plan import PlannedRun, Refusal, refuse
from tailmatch.engine.suite.processes import environment
from tailmatch.engine.suite.state import LOG, State, last_words, state_of
from tailmatch.engine.trackers import refuse_missing
from tailmatch.errors import UserError

_NO_MATTER = ("loss", "label_loss", "optim", "run", "call")
_NO_JUDGE = "it has no validation images to be judged on; add `options: {val_fraction: 0.2}` to the suite's `tune:`."
_OF_OPTIM = ("batch_size", "steps", "epochs")


def check_data(runs: Sequence[PlannedRun], threads: int | None, judged: bool = False) -> None:
    """Refuse the runs that their data or their networks do not allow, all in one error.

    Args:
        judged: whether they are trials, which need validation images.
    """
    refuse_missing(sorted({name for run in runs for name in run.config.call.track}))
    new = [run for run in runs if run.rehearse is not None and state_of(run.folder) is State.NEW]
    alike: dict[Any, list[PlannedRun]] = {}
    for run in new:
        alike.setdefault(_kind(run), []).append(run)
    answers = rehearse([of_kind[0] for of_kind in alike.values()], threads)
    if judged:
        answers = [answer if answer.get("validates", True) else {"refused": _NO_JUDGE} for answer in answers]
    refuse(
        [
            Refusal(run.name, run.where, answer["refused"])
            for of_kind, answer in zip(alike.values(), answers, strict=True)
            if "refused" in answer
            for run in of_kind
        ],
        len(runs),
    )


def rehearse(runs: Sequence[PlannedRun], threads: int | None, seconds: float = 0.0) -> list[dict[str, Any]]:
    """What rehearsal.py answers for these runs; with a limit of seconds, for the first of them."""
    if not runs:
        return []
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.jsonl"
        asked = [
            {
                "build": run.rehearse,
                "kind": f"{type(run.config).__module__}:{type(run.config).__qualname__}",
                "task": run.task,
                "config": to_yaml(run.config, run.task),
                "alone": bool(run.needs),
            }
            for run in runs
        ]
        wish = {"runs": asked, "answers": str(answers), "threads": threads, "seconds": seconds}
        with (Path(folder) / LOG).open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-m", "tailmatch.engine.suite.rehearsal"],
                input=json.dumps(wish).encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(threads),
                check=False,
            )
        found = [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []
        if done.returncode:
            raise UserError(f"{runs[len(found)].name} cannot be built: {' '.join(last_words(Path(folder)))}")
        return found


def _kind(run: PlannedRun) -> Any:
    """What building a run depends on, the seed aside."""
    config = run.config
    no_matter = {*_NO_MATTER, "distillation"} if run.needs else _NO_MATTER  # its teacher is of its seed
    parts = [getattr(config, field.name) for field in fields(config) if field.name not in no_matter]
    return run.task, *parts, *(getattr(config.optim, name, None) for name in _OF_OPTIM)
