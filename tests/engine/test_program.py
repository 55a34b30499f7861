"""The closing tables name the command as it was called."""

from pathlib import Path

import pytest

from tailmatch.engine import program
from tailmatch.engine.records import where_to_look


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("run.py", "python run.py"),
        ("../tailmatch/run.py", "python run.py"),
        ("/usr/bin/tailmatch", "tailmatch"),
        ("/site-packages/tailmatch/__main__.py", "python -m tailmatch"),
        ("/site-packages/pytest/__main__.py", "tailmatch"),
        ("/usr/bin/overrun.py", "tailmatch"),
    ],
)
def test_what_comes_next_is_typed_as_this_call_was(called: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.sys, "argv", [called, "ssl"])
    rows = dict(where_to_look(Path("runs/ssl/a b")))
    assert rows["next"].startswith(f"{name} analyze 'runs/ssl/a b'  (")
    assert rows["or"].startswith(f"{name} predict 'runs/ssl/a b' IMAGES  (")
    assert rows["curves"] == "tensorboard --logdir 'runs/ssl/a b/tensorboard'"
