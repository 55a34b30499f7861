"""The linter, the formatter and the type checker have nothing to say."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]


def run(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_linter_is_clean() -> None:
    assert run("ruff", "check", "--output-format", "concise", ".") == ""


def test_the_formatter_would_change_nothing() -> None:
    assert run("ruff", "format", "--check", ".") == ""


@pytest.mark.timeout(300)
def test_the_type_checker_is_clean(tmp_path: Path) -> None:
    """mypy knows nothing of a `__path__` made at run time, so it is shown the package as a wheel lays it out."""
    package = tmp_path / "tailmatch"
    for name, folder in FOLDERS.items():
        place = package.joinpath(*name.split(".")[1:])
        place.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / folder).glob("*.py"):
            (place / file.name).symlink_to(file)
    files = sorted(str(file.relative_to(tmp_path)) for file in package.rglob("*.py"))
    cache = str(ROOT / ".mypy_cache")
    found = run("mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", cache, *files, cwd=tmp_path)
    assert found == ""
