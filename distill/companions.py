"""The runs that a run needs beside it: a teacher for data of few images, and the student without its teacher.

Each is an ordinary run with a folder of its own, beside the run that asked for it, named after its configuration: the
same call finds it there the next time, and goes on with it where it was cut off.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tailmatch.datasets.catalog import STORE
from tailmatch.datasets.own_data import name_of
from tailmatch.engine.config import read_recipe, recorded
from tailmatch.engine.distributed import World
from tailmatch.engine.files import plain_name
from tailmatch.engine.locks import locked
from tailmatch.engine.options import EXECUTION_ONLY
from tailmatch.engine.records import RunFolder
from tailmatch.engine.session import BuildTask, Session
from tailmatch.errors import UserError
from tailmatch.features.store import read_card

# A companion serves all seeds' names alike; where it is computed does not change what it is.
_NOT_IN_NAME = EXECUTION_ONLY | {"seed", "device", "threads", "eval_every", "data_root", "init_checksum"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A task whose runs have companions.

    Its configurations have the groups `data`, `distillation`, `run` and `call`, the name of their network (`student`),
    and what they are without a teacher (`alone()`).
    """

    task: str
    config_type: type
    resolved: Callable[[Any], Any]
    teacher: Callable[[Any], Any]
    """The run that trains the teacher."""
    build: BuildTask
    identity: Callable[[Any], dict[str, Any]]


def run_beside(session: Session, kind: Kind) -> tuple[RunFolder, dict[str, Any], dict[str, Any] | None]:
    """The run, after its teacher where that is yet to be trained, and the result of the student alone where it is asked
    for."""
    config = session.config
    if config.distills and not config.distillation.is_there:
        checkpoint = trained(kind.resolved(kind.teacher(config)), "teacher", kind)[0].path.absolute()
        config = replace(config, distillation=replace(config.distillation, teacher_checkpoint=checkpoint))
        session.config = config
    alone = trained(kind.resolved(config.alone()), "baseline", kind)[1] if config.distillation.baseline else None
    return *session.run(kind.build, kind.identity(config)), alone


def trained(config: Any, role: str, kind: Kind) -> tuple[RunFolder, dict[str, Any]]:
    """Train the companion, go on with it, or take the one that is there; says which.

    Runs that are started side by side share one companion: the first trains it, the others wait for it.
    """
    folder = _place(config, role, kind)
    with ExitStack() as held:
        if World.from_environment().is_main:
            folder.path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder.path.with_name(f".{folder.path.name}.lock")))
        done = folder.is_finished
        begun = (folder.path / "config.yaml").is_file()
        call = replace(config.call, out=folder.path, resume=folder.path if begun else None)
        session = Session(replace(config, call=call), kind.task, folder.path.name)
        if session.world.is_main:
            verb = "taking" if done else "going on with" if begun else "training"
            print(f"{role}: {verb} {config.student}, kept in {folder.path}", flush=True)
        return session.run(kind.build, kind.identity(config))


def _place(config: Any, role: str, kind: Kind) -> RunFolder:
    out, data = config.call.out, config.data
    beside = Path("runs") / kind.task if out is None else out.parent
    values = _in_name(config)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]
    dataset = plain_name(name_of(data.dataset, data.data_root))
    name = f"{role}-{dataset}-{config.student}-{{}}-seed{config.run.seed}"
    named = RunFolder(beside / name.format(digest))
    if config.call.resume is not None and not named.path.exists():
        # Its companion was named before what a run settles as it begins was known, which is in both records now.
        for path in sorted(beside.glob(f"{name.format('*')}/config.yaml")):
            if _in_name(read_recipe(kind.config_type(), path, kind.task)) == values:
                return RunFolder(path.parent)
    return named


def _in_name(config: Any) -> dict[str, Any]:
    """What tells one companion from another."""
    values = {name: value for name, value in recorded(config).items() if name not in _NOT_IN_NAME}
    root = config.data.data_root
    if config.data.dataset == STORE and root is not None:  # two stores may be called alike
        with suppress(UserError):  # the store of an older run may be gone
            values["store"] = read_card(root.expanduser())[0]["id"]
    return values
