"""tailmatch: learning from few labels and from long tails, through one shared loss module.

The code lives in folders at the top of the repository (`ssl/`, `losses/`, ...). They carry no `__init__.py`, since a
regular package called `ssl` there would shadow Python's own. In a checkout this package adds the repository's root to
its path, so that `tailmatch.losses` is the folder `losses/`; a wheel holds the folders inside `tailmatch/` already.

Editors do not run this file. For them there are links beside it, one for each folder; nothing at run time needs these,
and on Windows git may write them as small text files.
"""

from pathlib import Path
from typing import TYPE_CHECKING

__all__ = ["__version__", "load_run"]
__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "losses").is_dir():
    __path__.insert(0, str(_root))

if TYPE_CHECKING:
    from tailmatch.inference.load import load_run
else:

    def __getattr__(name: str) -> object:
        """`load_run`, imported when asked for: it brings torch."""
        if name != "load_run":
            raise AttributeError(f"module 'tailmatch' has no attribute {name!r}")
        from tailmatch.inference.load import load_run

        return load_run
