"""What a run folder says of its run, read before anything is built. Free of torch.

The folder is named by a user: it may be unfinished, altered by hand, or none at all.
"""

import json
from pathlib import Path
from typing import Any


def result_of(folder: Path) -> dict[str, Any]:
    """result.json; empty where there is none that can be read, and resuming the run writes it anew."""
    try:
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_finished(folder: Path) -> bool:
    """Whether a run has come to its end there, and so left its weights."""
    return result_of(folder).get("status") == "finished"
