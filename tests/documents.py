"""The fenced blocks of a document, and the fresh checkout that they are run in, one after another.

A comment directly above a block, which no reader sees, says what to do where running it as it stands will not do:

    <!-- run: --steps 20 -->      added to each call of a script, before its ` -- `; `steps=20` in Python
    <!-- file: mine.yaml -->      the block is the content of this file
    <!-- skip: needs a GPU -->    it is not run here, and why

Blocks that are shown and never typed are `text`.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailmatch.cli import main

LANGUAGES = ("bash", "python", "text")
MARKERS = ("run", "file", "skip")
_FENCE = re.compile(r"(?P<indent> *)```(?P<language>.*)")
_MARKER = re.compile(r" *<!-- (?P<verb>\w+): (?P<words>.+) -->")
_SCRIPT = re.compile(r"(?P<own>\S+\.py\b(?:\\\n|[^#\n&|;])*?)(?P<rest>\s+-- [^#\n&|;]*)?(?=\s*(?:[#\n&|;]|$))")
_TIMEOUT = 120


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: where it starts, its language, its text, and what the comments above it say."""

    document: str
    line: int
    language: str
    text: str
    markers: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"

    def problems(self) -> list[str]:
        """What keeps it from being run."""
        found = [f"unknown marker {verb!r}; there are {', '.join(MARKERS)}" for verb in self.markers.keys() - MARKERS]
        if "file" not in self.markers and self.language not in LANGUAGES:
            found.append(f"language {self.language!r}; a block is {', '.join(LANGUAGES)}, or a file")
        return [f"{self.place}: {problem}." for problem in found]

    def as_run(self) -> str:
        """Its text with the arguments of `run`."""
        words = self.markers.get("run")
        if words is None:
            return self.text
        if self.language == "bash":
            text, count = _SCRIPT.subn(lambda call: f"{call['own']} {words}{call['rest'] or ''}", self.text)
        else:
            text, count = re.subn(rf"\b{words.partition('=')[0]}=[\w.]+", words, self.text)
        assert count, f"{self.place}: nothing here takes {words}."
        return text


def blocks_of(text: str, document: str) -> list[Block]:
    """Every fenced block, in order."""
    found: list[Block] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.fullmatch(lines[number])
        if opening is None:
            number += 1
            continue
        end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
        inner = [line.removeprefix(opening["indent"]) for line in lines[number + 1 : end]]
        found.append(
            Block(
                document=document,
                line=number + 1,
                language=opening["language"].strip(),
                text="\n".join(inner) + "\n",
                markers=_markers_above(lines, number),
            )
        )
        number = end + 1
    return found


def _markers_above(lines: list[str], number: int) -> dict[str, str]:
    found = {}
    while number and lines[number - 1].strip().startswith("<!--"):
        number -= 1
        if marker := _MARKER.fullmatch(lines[number]):
            found[marker["verb"]] = marker["words"]
    return found


@dataclass
class Checkout:
    """A copy of the repository as git would give it, with nothing of earlier runs in it."""

    place: Path
    written: set[str] = field(default_factory=set)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    """What the document's Python blocks have defined so far."""

    @classmethod
    def of(cls, root: Path, place: Path) -> "Checkout":
        listed = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"]
        for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines():
            if (root / name).is_symlink() or (root / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, place / name, follow_symlinks=False)
        checkout = cls(place)
        checkout.git("init", "-q")
        checkout.git("add", "-A")
        return checkout

    def git(self, *words: str) -> str:
        return subprocess.run(["git", *words], cwd=self.place, capture_output=True, text=True, check=True).stdout

    def run(self, block: Block) -> None:
        """Do what a reader would do with the block; raises where that fails."""
        if "skip" in block.markers or block.language == "text":
            return
        if "file" in block.markers:
            self.write(block.markers["file"], block.text)
        elif block.language == "bash":
            self._bash_block(block)
        else:
            # Empty lines in front make tracebacks name the document's own line.
            code = compile("\n" * block.line + block.as_run(), block.document, "exec")
            with self._as_reader():
                exec(code, self.names)

    def write(self, name: str, text: str) -> None:
        """What a reader writes is no trace that the document leaves."""
        (self.place / name).write_text(text, encoding="utf-8")
        self.written.add(name)

    def _bash_block(self, block: Block) -> None:
        """Where all of it is our own command line that is run here: to start Python for each line takes seconds."""
        commands = block.as_run().replace("\\\n", "").splitlines()
        if not all(command.startswith("python run.py ") for command in commands):
            self.bash(block.as_run(), block.place)
            return
        for command in commands:
            # bash takes the quotes off and finds the files that a * stands for.
            words = self.bash(command.replace("python run.py", r"printf '%s\0'", 1), block.place).split("\0")[:-1]
            with self._as_reader() as printed, contextlib.redirect_stderr(printed):
                try:
                    code = main(words)
                except SystemExit as stop:  # where an option does not exist
                    code = int(stop.code or 0)
            assert code == 0, f"{block.place}: exit code {code}\n{command}\n{printed.getvalue()[-2000:]}"

    @contextlib.contextmanager
    def _as_reader(self) -> Iterator[io.StringIO]:
        with contextlib.chdir(self.place), contextlib.redirect_stdout(io.StringIO()) as printed:
            yield printed

    def bash(self, text: str, place: str) -> str:
        """Run it in a shell whose `python` is the interpreter of these tests; returns what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.place,
            env=os.environ | {"PATH": f"{self._interpreter()}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
        )
        assert done.returncode == 0, f"{place}: exit code {done.returncode}\n{text}\n{done.stdout[-2000:]}"
        return done.stdout

    def _interpreter(self) -> Path:
        folder = self.place / ".git" / "bin"
        folder.mkdir(exist_ok=True)
        for name in ("python", "python3"):
            (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            (folder / name).chmod(0o755)
        return folder

    def traces(self) -> list[str]:
        """Files that git would show as new or changed."""
        lines = self.git("status", "--porcelain", "--untracked-files=all").splitlines()
        changed = [line[3:] for line in lines if line[1] != " "]
        return [name for name in changed if name not in self.written]
