"""The options of `run.py runs`. Free of torch, since `--help` imports it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class RunsConfig:
    """List the runs there are, the newest first: what was trained, how far it is and how good it was."""

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FOLDER ...")] = (Path("runs"),)
    """Where to look, folders inside folders included."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print a JSON list instead of the table."""
