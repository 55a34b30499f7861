"""The wheel holds the whole package and works from any folder, recipes included."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
FOLDERS = [folder for folder in PACKAGED if "/" not in folder and folder != "tailmatch"]
LEFT_OUT = ("tests", ".git", ".venv", "build", "dist", "runs", "data", "__pycache__", "*.egg-info", "*_cache")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package built from a copy (a build leaves folders behind) and installed beside the others."""
    base = tmp_path_factory.mktemp("install")
    copy = base / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    if not (copy / "README.md").exists():
        (copy / "README.md").write_text("# tailmatch\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, cwd=base)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = base.glob("tailmatch-*.whl")
    target = base / "site"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, cwd=base)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def run(installed: Path, *command: str) -> str:
    elsewhere = installed.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_folders_is_in_the_wheel(installed: Path) -> None:
    (wheel,) = installed.parent.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tailmatch/")}
    copy = installed.parent / "copy"
    for folder in FOLDERS:
        held = {f"tailmatch/{file.relative_to(copy)}" for file in (copy / folder).rglob("*") if file.is_file()}
        documents = {name for name in held if name.endswith(".md")}
        assert held - documents <= packed, f"pyproject.toml's package data forgets files of {folder}/"


def test_the_wheel_brings_nothing_else(installed: Path) -> None:
    top = {path.name for path in installed.iterdir() if not path.name.startswith("tailmatch")}
    assert top <= {"bin"}


def test_the_console_script_answers_from_another_folder(installed: Path) -> None:
    script = installed / "bin" / "tailmatch"
    assert "usage: tailmatch COMMAND [options]" in run(installed, str(script), "--help")


def test_the_entry_point_is_the_main_function() -> None:
    assert callable(EntryPoint("tailmatch", "tailmatch.__main__:main", "console_scripts").load())


def test_recipes_are_found_in_the_installed_package(installed: Path) -> None:
    text = run(installed, "-m", "tailmatch", "ssl", "--config", "digits", "--dry-run")
    assert "40 labelled" in text
    code = "import tailmatch.losses, tailmatch.engine.config as c, ssl; print(c.recipe_path('digits')); ssl.SSLContext"
    assert str(installed) in run(installed, "-c", code)


def test_the_commit_is_unknown_there_and_nothing_fails(installed: Path) -> None:
    assert run(installed, "-c", "from tailmatch.engine.records import commit; print(commit())") == "None\n"
