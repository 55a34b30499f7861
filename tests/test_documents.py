"""What the documents tell a reader to type does what they say: every fenced block, in order, in a fresh checkout."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

from .documents import Block, Checkout, blocks_of

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "*/README.md", "docs/*.md")
    for path in sorted(ROOT.glob(pattern))
]

pytestmark = pytest.mark.skipif(
    os.name != "posix" or not (ROOT / ".git").exists() or not shutil.which("git"), reason="not a checkout with bash"
)


def blocks(name: str) -> list[Block]:
    return blocks_of((ROOT / name).read_text(encoding="utf-8"), name)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_says_what_it_is(name: str) -> None:
    assert [problem for block in blocks(name) for problem in block.problems()] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in DOCUMENTS if blocks(name)])
def test_every_block_runs(name: str, tmp_path: Path) -> None:
    checkout = Checkout.of(ROOT, tmp_path)
    for block in blocks(name):
        checkout.run(block)
    assert checkout.traces() == [], f"{name} writes where git looks"


# -- the set-up --------------------------------------------------------------------------------------------------------


def test_the_first_command_trains_and_may_be_pasted_again(tmp_path: Path) -> None:
    """Where its set-up was made before, with the packages that are here: to download them is what CI does."""
    pins = [line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    if other := [name for name, pin in pins if version(name).split("+")[0] != pin]:
        pytest.skip(f"other versions here than requirements.txt pins: {', '.join(other)}")
    checkout = Checkout.of(ROOT, tmp_path)
    venv.create(tmp_path / ".venv", symlinks=True, with_pip=True)
    (site,) = (tmp_path / ".venv" / "lib").glob("python*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text(f"import sys; sys.path[:0] = {packages}\n")  # before the setuptools of old Pythons
    (line,) = next(block for block in blocks("README.md") if "pip install" in block.text).text.splitlines()
    words = {"run": "--steps 1 --batch-size 2"}
    block = Block(document="README.md", line=0, language="bash", text=f"export PIP_NO_INDEX=1; {line}\n", markers=words)
    checkout.run(block)
    assert len(list(tmp_path.glob("runs/ssl/*/result.json"))) == 1


def test_ci_finds_the_command_of_the_tests() -> None:
    """.ci/run takes what follows this comment."""
    cut = ["sed", "-n", "/^<!-- tests -->$/,/^```$/p", "README.md"]
    found = subprocess.run(cut, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    (line,) = [line for line in found if not line.startswith(("```", "<!--"))]
    assert line.endswith("python -m pytest -n auto")
    # One call of pip, the pins first: a call without them would replace torch by its newest.
    assert line.count("pip install") == 1
    assert line.index("-r requirements.txt") < line.index('-e ".[dev]"')


# -- the harness itself ------------------------------------------------------------------------------------------------


def written(*lines: str) -> list[Block]:
    return blocks_of("\n".join(lines) + "\n", "NOTE.md")


@pytest.fixture
def empty(tmp_path: Path) -> Checkout:
    (tmp_path / "kept.txt").write_text("as it was\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    checkout = Checkout(tmp_path)
    checkout.git("init", "-q")
    checkout.git("add", "-A")
    return checkout


def test_a_block_without_a_language_is_a_problem() -> None:
    (block,) = written("words", "```", "python run.py ssl", "```")
    assert block.problems() == ["NOTE.md:2: language ''; a block is bash, python, text, or a file."]
    (block,) = written("<!-- runs: --steps 2 -->", "```bash", "true", "```")
    assert block.problems() == ["NOTE.md:2: unknown marker 'runs'; there are run, file, skip."]


def test_arguments_come_behind_each_call_and_before_its_comment() -> None:
    lines = ("python run.py ssl --loss ikl    # the first", "cd . && python run.py suite a \\", "  --only 1 && ls x")
    (block,) = written("<!-- tests -->", "<!-- run: --steps 2 -->", "```bash", *lines, "```")
    first, second, third = block.as_run().splitlines()
    assert first == "python run.py ssl --loss ikl --steps 2    # the first"
    assert (second, third) == ("cd . && python run.py suite a \\", "  --only 1 --steps 2 && ls x")
    (block,) = written("<!-- run: --dry-run -->", "```bash", "python run.py suite a -- --lr 1    # b", "```")
    assert block.as_run() == "python run.py suite a --dry-run -- --lr 1    # b\n"
    (block,) = written("<!-- run: steps=2 -->", "```python", "train(steps=10_000, lr=1)", "```")
    assert block.as_run() == "train(steps=2, lr=1)\n"
    (block,) = written("<!-- run: --steps 2 -->", "```bash", "ls", "```")
    with pytest.raises(AssertionError, match=r"NOTE.md:2: nothing here takes --steps 2"):
        block.as_run()


def test_blocks_go_on_from_each_other(empty: Checkout) -> None:
    note = ["```python", "import sys", "x = 3", "```", "", "- then", "", "  ```bash", "  echo 4 > kept.txt", "  ```"]
    note += ["<!-- file: mine.yaml -->", "```yaml", "a: 1", "```", "```text", "never typed", "```"]
    note += [
        "```python",
        "assert x + int(open('kept.txt').read()) == 7 and open('mine.yaml').read() == 'a: 1\\n'",
        "```",
    ]
    for block in written(*note):
        assert block.problems() == []
        empty.run(block)
    assert (empty.place / "mine.yaml").read_text() == "a: 1\n"
    assert empty.traces() == ["kept.txt"]
    empty.bash("mkdir runs; echo >runs/a; echo >b", "")
    assert empty.traces() == ["kept.txt", "b"]


def test_what_fails_is_named(empty: Checkout) -> None:
    lines = ["```bash", "ls nothing | cat", "```", "```python", "", "unknown", "```", "```text", "```"]
    lines += ["```bash", "python run.py ssl --losss ikl  # none", "```"]
    first, second, third, fourth = written(*lines)
    with pytest.raises(AssertionError, match=r"NOTE.md:1: exit code"):
        empty.run(first)
    with pytest.raises(NameError, match="unknown") as caught:
        empty.run(second)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == ("NOTE.md", 6)
    empty.run(third)
    with pytest.raises(AssertionError, match=r"NOTE.md:10: exit code 2\npython run.py ssl --losss ikl(.|\n)*--loss"):
        empty.run(fourth)
