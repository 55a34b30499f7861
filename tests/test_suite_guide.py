"""docs/suites.md: its suite is planned and run as it stands there, and its calls are calls."""

import re
import shlex
from pathlib import Path

import pytest

from tailmatch.cli import main

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the guide's suite in it."""
    (text,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_suite_of_the_guide_runs_to_its_report(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "mine.yaml", "--seeds", "1", "--", "--epochs", "2", "--eval-every", "30"]) == 0
    assert "6 of 6 runs finished" in capsys.readouterr().out
    folder = mine / "runs" / "suites" / "mine"
    names = {path.parent.name for path in folder.glob("*/result.json")}
    assert names == {"teacher-s1", "cross-entropy-s1", "ldam-s1", "ldam-drw0.5-s1", "kl-s1", "ikl-s1"}
    assert (folder / "analysis" / "report.html").exists()


def test_the_calls_of_the_guide_are_understood(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    suites = [call[2:] for call in calls if call[2] == "suite"]
    assert len(suites) == 3
    for call in suites:
        place = call.index("--") if "--" in call else len(call)
        assert main([*call[:place], "--dry-run", *call[place:]]) == 0
    (compare,) = [call[2:] for call in calls if call[2] == "compare"]
    place = compare.index("--")
    assert main([*compare[:place], "--dry-run", *compare[place:]]) == 0
    assert "12 runs to go" in capsys.readouterr().out
