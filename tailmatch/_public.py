"""The public names of a folder, imported when first asked for.

`from tailmatch.losses import IKL` needs a module to hold the name, and the folder `losses/` has no `__init__.py`.
So `tailmatch/losses.py` is that module: its `__path__` is the folder, and its names come from the files in it. They
are imported lazily because the command line must answer `--help` without importing torch.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import tailmatch


def folder_path(folder: str) -> list[str]:
    """Where the files of `tailmatch.<folder>` are: beside this file in a wheel, at the root in a checkout."""
    return [str(place) for base in tailmatch.__path__ if (place := Path(base) / folder).is_dir()]


def lazy_names(folder: str, names: dict[str, str]) -> Callable[[str], Any]:
    """A module `__getattr__` that finds each name of `names` in its file: `{"IKL": "modules"}`."""

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module 'tailmatch.{folder}' has no attribute {name!r}")
        return getattr(import_module(f"tailmatch.{folder}.{names[name]}"), name)

    return __getattr__


def load_named(place: str) -> Any:
    """What `folder.module:name` names, imported only now."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"tailmatch.{module}"), name)
