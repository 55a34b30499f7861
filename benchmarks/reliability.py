"""What the measurements of reliability share: one file of results, to which each adds its own part.

Used by bit_flips.py, kill_and_resume.py, processes.py, soak.py and tests/fuzz/run.py.
"""

import json
import platform
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # runs from a checkout that is not installed
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"


def recorded(part: str | None = None) -> dict[str, Any]:
    """What the file holds, or a part of it; empty where that is not there."""
    parts: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return parts if part is None else parts.get(part, {})


def record(part: str, found: dict[str, Any]) -> None:
    """Put this part's figures into the file, with the command that gave them; the other parts stay as they are."""
    parts = recorded()
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    parts[part] = {
        "command": shlex.join(["python", str(script), *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        **found,
    }
    RESULTS.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
