"""What to do where the interpreter lacks what tailmatch needs: most often an environment is there and not activated."""

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BIN = "Scripts" if os.name == "nt" else "bin"


def is_a_dependency(module: str | None) -> bool:
    """Whether a module that was not found is neither ours nor Python's own, and so one to install."""
    top = (module or "").partition(".")[0]
    return bool(top) and top != "tailmatch" and top not in sys.stdlib_module_names


def what_to_do(module: str | None, root: Path = ROOT) -> str:
    """One sentence: which interpreter lacks the module, and how to call the one that has it or to install it."""
    lacks = f"This Python ({sys.executable}) has no module {module!r}, which tailmatch needs"
    python, needed = shlex.quote(sys.executable), root / "requirements.txt"
    if not needed.is_file():
        return f"{lacks}; install tailmatch with its dependencies: {python} -m pip install --force-reinstall tailmatch"
    own = root / ".venv" / _BIN
    if Path(sys.prefix).resolve() == (root / ".venv").resolve() or (sys.prefix != sys.base_prefix and not own.is_dir()):
        return f"{lacks}; install what is missing: {python} -m pip install -r {_typed(needed)}"
    if not own.is_dir():
        make = f"{python} -m venv {_typed(root / '.venv')} && {_typed(own / 'pip')} install -r {_typed(needed)}"
        return f"{lacks}; make an environment once ({make}), then call {_typed(own / 'python')} instead of python."
    activate = f"{'' if os.name == 'nt' else 'source '}{_typed(own / 'activate')}"
    return f"{lacks}; activate its environment first ({activate}), or call {_typed(own / 'python')} instead of python."


def _typed(path: Path) -> str:
    """The path as short as it can be typed here."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here)) if path.is_relative_to(here) else str(path))
