"""A bare `python run.py` with an interpreter that lacks the dependencies says in one sentence what to type instead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailmatch import missing_module
from tailmatch.missing_module import is_a_dependency, what_to_do

ROOT = Path(__file__).resolve().parent.parent
RUN = [sys.executable, "-S", "-E", str(ROOT / "run.py")]  # without site-packages: nothing but Python's own modules


@pytest.mark.parametrize("words", [["ssl", "--loss", "ikl"], ["analyze", "runs"], ["suite", "digits_ssl"]])
def test_without_the_dependencies_it_is_one_sentence(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*RUN, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"error: This Python ({sys.executable}) has no module 'tyro', which tailmatch needs; ")


def test_what_needs_no_dependency_still_answers(tmp_path: Path) -> None:
    done = subprocess.run([*RUN, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_advice_fits_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(missing_module.sys, "prefix", sys.base_prefix)
    bin_folder = Path(".venv", "Scripts" if os.name == "nt" else "bin")
    assert what_to_do("tyro", tmp_path).endswith("-m pip install --force-reinstall tailmatch")  # a package, no checkout
    (tmp_path / "requirements.txt").touch()
    make = f"{sys.executable} -m venv .venv && {bin_folder / 'pip'} install -r requirements.txt"
    call = f"call {bin_folder / 'python'} instead of python."
    assert what_to_do("tyro", tmp_path).endswith(f"; make an environment once ({make}), then {call}")
    (tmp_path / bin_folder).mkdir(parents=True)
    assert f"{bin_folder / 'activate'}), or {call}" in what_to_do("tyro", tmp_path)
    monkeypatch.setattr(missing_module.sys, "prefix", str(tmp_path / ".venv"))  # activated, and incomplete
    assert what_to_do("yaml", tmp_path).endswith(f"{sys.executable} -m pip install -r requirements.txt")


def test_a_module_of_ours_that_is_missing_is_a_fault_to_see() -> None:
    assert is_a_dependency("tyro")
    assert is_a_dependency("sklearn.datasets")
    assert not any(is_a_dependency(name) for name in ("tailmatch.losses.nothing", "json.nothing", None))
