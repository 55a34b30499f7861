"""The folders at the top are one package and shadow nothing; `--help` needs neither torch nor numpy."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tailmatch.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = sorted(folder for name, folder in SETUPTOOLS["package-dir"].items() if name != "tailmatch")
FOLDERS = [folder for folder in PACKAGES if "/" not in folder]
NO_PACKAGE = {"tests", "benchmarks"}


def python(code: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_list_equals_the_folders() -> None:
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    code = [Path(file) for file in tracked.stdout.splitlines() if "/" in file and file.endswith(".py")]
    holding_code = {file.parent.as_posix() for file in code if file.parts[0] not in NO_PACKAGE}
    assert set(PACKAGES) - {"configs"} == holding_code - {"tailmatch"}
    names = {f"tailmatch.{folder.replace('/', '.')}": folder for folder in PACKAGES}
    assert SETUPTOOLS["package-dir"] == {"tailmatch": "tailmatch", **names}
    assert sorted(SETUPTOOLS["packages"]) == sorted(["tailmatch", *names])


def test_no_folder_is_a_regular_package() -> None:
    assert not [str(file) for folder in [*FOLDERS, *NO_PACKAGE] for file in (ROOT / folder).rglob("__init__.py")]


def test_the_standard_library_wins_from_the_root() -> None:
    code = "import ssl, urllib.request; ssl.SSLContext; print(ssl.__file__)"
    assert str(ROOT) not in python(code)


IMPORT = re.compile(r"^[ ]*(?:from (?P<source>[.]*[\w.]*) import|import (?P<plain>[\w.]+))", re.M)


@cache
def imports() -> list[tuple[str, str, str]]:
    """(folder, file, module) of every import in the folders."""
    return [
        (folder, str(file.relative_to(ROOT)), match["plain"] or match["source"])
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py*")
        if file.suffix in {".py", ".pyi"}
        for match in IMPORT.finditer(file.read_text(encoding="utf-8"))
    ]


def test_every_file_imports_its_kin_from_tailmatch() -> None:
    """`import losses` works from the root alone, and `from .kl` is not followed by editors in a checkout."""
    own = {*FOLDERS} - {"ssl"}
    assert not [f"{place} {module}" for _, place, module in imports() if module.split(".")[0] in {"", *own}]


def test_editors_find_every_folder_of_code_beside_the_package() -> None:
    links = {link.name for link in (ROOT / "tailmatch").iterdir() if link.is_symlink()}
    if not links:
        pytest.skip("this checkout has no links")
    assert links == {*FOLDERS} - {"configs"}
    assert all((ROOT / "tailmatch" / link).resolve() == ROOT / link for link in links)


# Which folders a folder may import from; the leaves, which import none of these, may be used by all.
MAY_USE = {
    "losses": {"losses"},
    "models": {"models", "tailmatch"},
    "analysis": {"analysis"},
    "engine": {"engine"},
    "features": {"features", "engine"},
    "features/embed": {"features", "inference", "datasets", "models", "engine", "tailmatch"},
    "datasets": {"datasets", "features", "engine", "tailmatch"},
    "ssl": {"ssl", "datasets", "features", "models", "losses", "engine"},
    "distill": {"distill", "datasets", "features", "models", "losses", "engine"},
    "longtail": {"longtail", "distill", "datasets", "features", "models", "losses", "engine"},
    "inference": {"inference", "ssl", "datasets", "models", "engine", "analysis"},
}
LEAVES = {
    *("errors", "declare", "torchvision_import", "checksums", "guarded_text", "result_form", "__version__"),
    *("analysis.groups", "analysis.metrics", "analysis.npz_reader"),
}


def may_use(place: str, folder: str) -> set[str]:
    """What a file may import from; a folder within a folder may have a row of its own."""
    return MAY_USE.get(Path(place).parent.as_posix(), MAY_USE[folder])


def test_dependencies_run_one_way() -> None:
    own = [
        (folder, place, module.removeprefix("tailmatch."))
        for folder, place, module in imports()
        if "tailmatch." in module
    ]
    assert not [
        f"{place} uses {module}"
        for folder, place, module in own
        if folder in MAY_USE and module not in LEAVES and module.split(".")[0] not in may_use(place, folder)
    ]


def test_training_reads_prepared_files_without_what_prepares_them() -> None:
    inside = Path("datasets", "files")
    places = [(place, module) for _, place, module in imports() if inside in Path(place).parents]
    assert places
    assert not [f"{place} uses {module}" for place, module in places if module.startswith("tailmatch.datasets.prepare")]


def test_stores_are_read_without_what_makes_them() -> None:
    embed = Path("features", "embed")
    places = [(place, module) for _, place, module in imports() if embed not in Path(place).parents]
    assert not [f"{place} uses {module}" for place, module in places if module.startswith("tailmatch.features.embed")]


def test_a_long_tail_of_files_has_no_long_file() -> None:
    long = {
        str(file.relative_to(ROOT)): length
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if (length := len(file.read_text(encoding="utf-8").splitlines())) > 330
    }
    assert not long


LIGHT = """
import contextlib, io, sys
from tailmatch.cli import main
heavy = {"torch", "torchvision", "numpy", "sklearn", "pandas", "matplotlib", "tensorboard", "safetensors"}
for words in WORDS:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    print(words, code or 0, sorted(heavy & set(sys.modules)))
"""
HELP = [[], ["--help"], ["-h"], ["--version"], *([command, "--help"] for command in COMMANDS)]
REFUSED = [["sll"], ["ssl", "--sede", "3"], ["ssl", "--lr", "nan"], ["ssl", "--config", "nosuch"], ["ssl", "--resume"]]


@pytest.mark.parametrize(("code", "words"), [(0, HELP), (2, REFUSED)], ids=["help", "refusals"])
def test_help_and_refusals_import_neither_torch_nor_numpy(code: int, words: list[list[str]]) -> None:
    """They take seconds; without them the answer is there at once."""
    assert python(LIGHT.replace("WORDS", repr(words))).splitlines() == [f"{one} {code} []" for one in words]


@pytest.mark.parametrize(
    "folder", ["losses", "ssl", "distill", "longtail", "datasets", "features", "models", "analysis", "inference"]
)
def test_the_public_names_are_there_when_asked_for(folder: str) -> None:
    module = import_module(f"tailmatch.{folder}")
    names = getattr(module, "__all__", None) or []
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module 'tailmatch.{folder}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018
    assert names, f"tailmatch.{folder} lists no public names"


def test_public_names_are_imported_lazily() -> None:
    code = "import sys, tailmatch.losses, tailmatch.ssl, tailmatch.inference; print('torch' in sys.modules)"
    assert python(code) == "False\n"
    assert python("import tailmatch; print(tailmatch.load_run.__module__)") == "tailmatch.inference.load\n"
    code = "from tailmatch.losses import IKL; from tailmatch.models import build_model; print(IKL.__name__)"
    assert python(code) == "IKL\n"
