"""The public names of a folder, imported when first asked for.

`from tailmatch.losses import IKL` needs a module to hold the name, and the folder `losses/` has no `__init__.py`. So
`tailmatch/losses.py` is that module: its `__path__` is the folder, and its names are those that the folder's
`__init__.pyi` lists. Editors and type checkers read that stub as it stands; here it is read for the file of each name,
which is imported lazily because the command line must answer `--help` without importing torch.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import tailmatch


def public(folder: str) -> tuple[list[str], list[str], Callable[[str], Any]]:
    """`__path__`, `__all__` and `__getattr__` of the module `tailmatch.<folder>`."""
    places = [str(place) for base in tailmatch.__path__ if (place := Path(base) / folder).is_dir()]
    names = _names_of(Path(places[0]) / "__init__.pyi")

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module 'tailmatch.{folder}' has no attribute {name!r}")
        return getattr(import_module(names[name]), name)

    return places, sorted(names), __getattr__


def _names_of(stub: Path) -> dict[str, str]:
    """The module of each name that a stub imports: `{"IKL": "tailmatch.losses.modules"}`."""
    imports = (node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def load_named(place: str) -> Any:
    """What `folder.module:name` names, imported only now."""
    module, _, name = place.partition(":")
    return getattr(import_module(f"tailmatch.{module}"), name)
