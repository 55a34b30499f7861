"""What documents, docstrings, comments and messages quote is there: options, files and names."""

import ast
import contextlib
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tailmatch.cli import main
from tailmatch.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
OPTION = re.compile(r"(?<![\w`/.-])--[a-z][a-z0-9]*(?:[.-][a-z0-9]+)*")
QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FILE = re.compile(r"[\w./-]*\w\.(?:py|pyi|md|yaml|json|jsonl|npz|toml|csv|txt|css|db|js|html|png|safetensors)")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?")

OPTIONS_OF_OTHERS = {
    *("--abbrev", "--always", "--dirty", "--exclude"),  # git
    *("--force-reinstall", "--logdir", "--nproc-per-node"),  # pip, TensorBoard, torchrun
    "--action",  # tyro, for what stands without a name
    *("--max-restarts", "--nnodes", "--standalone", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id"),  # torchrun
    *(
        "--cpus-per-task",
        "--gpus-per-node",
        "--nodes",
        "--ntasks-per-node",
        "--time",
        "--signal",
        "--requeue",
        "--open-mode",
    ),
    # Slurm
    *("--c", "--c-1f2328", "--no"),  # a colour's variable in a page, the beginning of a switch
}
NAMES_OF_OTHERS = {
    *("nohup", "tabular", "svg.fonttype", "x4", "cutout_numpy"),  # the shell, LaTeX, matplotlib, mdistiller, FixMatch
    *("MobileNetV2", "mobile_half", "ShuffleV1", "ShuffleV2", "vgg8_bn", "vgg13_bn"),  # mdistiller, RepDistiller
    *("config.json", "train2018.json", "val2018.json"),  # the Hugging Face hub, iNaturalist
    *("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"),  # torchrun
    "NAME-seed3.npz",  # an example
}

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")


@cache
def tracked() -> tuple[str, ...]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    return tuple(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


@cache
def tokens_of(name: str) -> tuple[tokenize.TokenInfo, ...]:
    return tuple(tokenize.generate_tokens(io.StringIO((ROOT / name).read_text(encoding="utf-8")).readline))


def code() -> list[str]:
    return [name for name in tracked() if name.endswith(".py")]


def texts() -> Iterator[tuple[str, str]]:
    """(file, what it says): documents whole, of code the strings and comments."""
    for name in tracked():
        if name.endswith(".md"):
            yield name, (ROOT / name).read_text(encoding="utf-8")
        elif name.endswith(".py") and not name.startswith("tests/"):
            said = [token.string for token in tokens_of(name) if token.type in (tokenize.STRING, tokenize.COMMENT)]
            yield name, "\n".join(said)


def help_of(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return said.getvalue()


def options() -> set[str]:
    """What every command and script takes, from the left of its help."""
    calls = [(), *((command,) for command in COMMANDS), *(("data", verb) for verb in ("prepare", "check", "list"))]
    heads = [line for words in calls for line in help_of(*words).splitlines() if re.match(r"[│ ]+-+[a-z]", line)]
    found = {option for head in heads for option in re.findall(r"--[a-z][a-z0-9.-]*", head)} | {"--version"}
    for name in code():
        found |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', (ROOT / name).read_text(encoding="utf-8")))
    return found


def test_every_option_that_is_spoken_of_is_one() -> None:
    known = options() | OPTIONS_OF_OTHERS
    assert len(known) > 150
    wrong = {f"{file}: {option}" for file, text in texts() for option in OPTION.findall(text) if option not in known}
    assert "\n".join(sorted(wrong)) == ""


def values_in(name: str) -> Iterator[str]:
    """The words and file names that a file's strings are: choices, keys, what a run writes; no sentences."""
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) == 1:
            yield from (node.value, node.value.lstrip("/"), *node.value.split(":"))


def is_there(quoted: str, names: set[str], files: set[str]) -> bool:
    if FILE.fullmatch(quoted):
        made = not quoted.endswith((".py", ".pyi", ".md")) and quoted.rpartition("/")[2] in names  # by a run
        return made or any(f"/{file}".endswith(f"/{quoted}") for file in files)
    if NAME.fullmatch(quoted):
        return quoted in names or all(part in names for part in quoted.removesuffix("()").split("."))
    return True  # a formula, a command or an example


def test_every_name_that_is_quoted_is_there() -> None:
    files = set(tracked())
    names = NAMES_OF_OTHERS | {Path(name).stem for name in files}
    for name in code():
        names |= {token.string for token in tokens_of(name) if token.type == tokenize.NAME} | set(values_in(name))
    wrong = {
        f"{file}: {quoted}"
        for file, text in texts()
        for quoted in QUOTED.findall(text)
        if not is_there(quoted, names, files)
    }
    assert "\n".join(sorted(wrong)) == ""


def test_what_is_not_there_is_found() -> None:
    assert not is_there("losses/options.py", {"IKL"}, {"losses/catalog.py"})
    assert not is_there("add_ons.ADD_ONS", {"ADD_ONS"}, set())
    assert is_there("catalog.py", set(), {"losses/catalog.py"})
    assert OPTION.findall("give --download, or --loss.beta 0.1.") == ["--download", "--loss.beta"]
