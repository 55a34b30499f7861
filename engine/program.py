"""What to type to call this program again: the closing tables and the advice in errors name it so."""

import sys
from pathlib import Path


def program_name() -> str:
    """`python run.py` from a checkout, `python -m tailmatch` where it was called so, `tailmatch` once installed."""
    started_by = Path(sys.argv[0]) if sys.argv else Path()
    if started_by.name == "run.py":
        return "python run.py"
    return "python -m tailmatch" if started_by.parts[-2:] == ("tailmatch", "__main__.py") else "tailmatch"
