"""What to type to call this program again: the closing tables and the advice in errors name it so."""

import sys
from pathlib import Path


def program_name() -> str:
    """`python run.py` from a checkout, `python -m tailmatch` where it was called so, `tailmatch` once installed."""
    started_by = Path(sys.argv[0]).name if sys.argv else ""
    return {"run.py": "python run.py", "__main__.py": "python -m tailmatch"}.get(started_by, "tailmatch")
