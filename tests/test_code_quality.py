"""The linter, the formatter and the type checker have nothing to say."""

import re
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
        for file in (*(ROOT / folder).glob("*.py"), *(ROOT / folder).glob("*.pyi")):
            (place / file.name).symlink_to(file)
    facades = ("analysis", "datasets", "distill", "features", "inference", "longtail", "losses", "models", "ssl")
    hidden = {package / f"{name}.py" for name in facades}
    files = sorted(str(file.relative_to(tmp_path)) for file in {*package.rglob("*.py*")} - hidden)
    cache = str(ROOT / ".mypy_cache")
    found = run("mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", cache, *files, cwd=tmp_path)
    assert found == ""


PUBLIC = """
import ssl
from tailmatch.losses import IKL, build_loss
from tailmatch.ssl import SSLConfig, train
from tailmatch.longtail import LongtailConfig
from tailmatch.distill import Distillation, load_network
from tailmatch.datasets import Dataset, load_dataset
from tailmatch.features import FeatureStore, open_store
from tailmatch.models import build_model
from tailmatch.inference import LoadedRun
from tailmatch import load_run
from tailmatch.analysis import Run, group_accuracy
"""


@pytest.mark.timeout(300)
def test_an_editor_knows_our_imports_and_our_public_names() -> None:
    """basedpyright is what many editors run; its wheel brings all it needs."""
    imported = [line.partition(" import ")[2] for line in PUBLIC.splitlines() if line.startswith("from ")]
    names = [name for line in imported for name in line.split(", ")] + ["IKL.__init__", "ssl.SSLContext"]
    (ROOT / "tests" / "__editor__.py").write_text(PUBLIC + "".join(f"reveal_type({name})\n" for name in names))
    try:
        command = [
            sys.executable,
            "-m",
            "basedpyright",
            "--pythonpath",
            sys.executable,
            "tests/__editor__.py",
            "tailmatch",
        ]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    finally:
        (ROOT / "tests" / "__editor__.py").unlink()
    unresolved = [line for line in found.splitlines() if "could not be resolved" in line]
    assert [line for line in unresolved if '"triton' not in line] == []
    types = dict(re.findall(r'Type of "([\w.]+)" is "(.*)"', found))
    assert list(types) == names
    assert [name for name, kind in types.items() if kind in ("Any", "Unknown")] == []
    assert "num_classes: int, *, " in types["IKL.__init__"]
    assert "beta: float = " in types["IKL.__init__"]
