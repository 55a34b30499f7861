"""Inputs to try on readers, as strategies of hypothesis: texts, damaged files, words of a command line."""

import json
from functools import cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tailmatch._public import load_named
from tailmatch.commands import COMMANDS
from tailmatch.engine.config import options_of
from tests.small_files import RESULT


def damaged(whole: bytes) -> SearchStrategy[bytes]:
    """A file with a few of its bytes changed, cut out, doubled or put in."""
    place = st.integers(0, len(whole))
    flip = st.tuples(st.just("flip"), place, st.integers(0, 7))
    others = st.tuples(st.sampled_from(["cut", "double", "zero"]), place, st.integers(1, 64))
    insert = st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=8))

    def changed(changes: list[tuple[str, int, Any]]) -> bytes:
        content = bytearray(whole)
        for kind, at, value in changes:
            if kind == "flip" and at < len(content):
                content[at] ^= 1 << value
            elif kind == "cut":
                del content[at : at + value]
            elif kind == "double":
                content[at:at] = content[at : at + value]
            elif kind == "zero":
                content[at : at + value] = bytes(len(content[at : at + value]))
            elif kind == "insert":
                content[at:at] = value
        return bytes(content)

    return st.lists(st.one_of(flip, others, insert), max_size=4).map(changed)


def damaged_text(whole: str) -> SearchStrategy[str]:
    return damaged(whole.encode()).map(lambda content: content.decode("utf-8", "replace"))


def one_damaged(files: dict[str, bytes]) -> SearchStrategy[dict[str, bytes]]:
    """The files of a folder, one of them damaged."""
    return st.sampled_from(sorted(files)).flatmap(
        lambda name: damaged(files[name]).map(lambda content: {**files, name: content})
    )


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["@x", "../..", "0.1", "ikl"]),
)
VALUES = st.recursive(
    LEAVES, lambda of: st.lists(of, max_size=4) | st.dictionaries(st.text(max_size=6), of, max_size=4)
)
WORDS = st.sampled_from(
    [
        *("task", "ssl", "runs", "seeds", "options", "exclude", "name", "lr", "loss", "beta", "ikl", "0.1", "null"),
        *("[", "]", "{", "}", ":", ": ", "- ", ", ", "\n", "\n  ", "&a ", "*a", "? ", "| ", "> ", '"', "'", "#"),
        *("!!int ", "<<", "\t", "1e999"),
    ]
)
YAML = st.one_of(
    st.lists(WORDS, max_size=40).map("".join),
    st.text(max_size=60),
    VALUES.map(lambda value: json.dumps(value, default=str)),
    damaged_text("task: ssl\nseeds: [0, 1]\nruns:\n  - {loss: [ikl, kl], lr: 0.1}\n  - name: x\n    lr: [0.1, 0.2]\n"),
)
JSON = st.one_of(
    VALUES.map(json.dumps),
    st.text(max_size=40),
    st.integers(1, 5000).map(lambda depth: "[" * depth + "]" * depth),
    damaged_text(json.dumps(RESULT)),
)
TUNING = {
    "schema": 1,
    "trials": 2,
    "seeds": [100],
    "methods": {
        "ikl": {
            "runs": ["ikl-s0"],
            "chosen": 1,
            "trials": [
                {"changes": {}, "validation": [0.5], "test": [{"all": 0.5}]},
                {"changes": {"lr": "0.1"}, "validation": [0.6], "test": [{"all": 0.4}]},
            ],
        }
    },
}
ROWS = [{"step": step, "seconds": step / 2, "train/loss": 1 / step, "eval/accuracy/all": 0.5} for step in (1, 2, 3)]
METRICS = st.one_of(
    damaged_text("".join(json.dumps(row) + "\n" for row in ROWS)),
    st.lists(VALUES.map(json.dumps) | st.text(max_size=20), max_size=4).map("\n".join),
)
PLACES = st.sampled_from(["a", "b", "train/a", "train/b", "test/a", "val/a", "unlabeled", "x y", "ü"])
RIGHT_LINES = st.tuples(st.sampled_from(["a.png", "x/ü b.jpg", "train/n01/3.JPEG"]), st.integers(0, 2))
WRONG_LINES = st.tuples(st.sampled_from(["../a", "/etc/a", "3", "", "C:\\a"]), st.integers(-1, 9))
LISTED = st.lists(RIGHT_LINES, min_size=1, max_size=8), st.lists(RIGHT_LINES | WRONG_LINES, max_size=8)
LINES = st.one_of(
    *(rows.map(lambda rows: "\n".join(f"{path} {label}" for path, label in rows)) for rows in LISTED),
    st.lists(st.integers(-1, 4).map(str), max_size=4).map("\n".join),
    st.lists(st.text(max_size=12), max_size=8).map("\n".join),
)
OTHER_WORDS = st.one_of(
    st.sampled_from(["--", "-h1", "--sede", "--no-nesterov", "ikl", "0", "-1", "nan", "1e400", "9" * 30, "", "None"]),
    st.sampled_from(["imagenet-lt", "digits", "runs/x", "4 6", "fixmatch,freematch", "true", "0.5", "last", "hf"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10).filter(lambda word: word != "-h"),
)


@cache
def _options(command: str) -> list[tuple[str, tuple[str, ...]]]:
    """The options of a command, with words that some of them take."""
    found = []
    for option in options_of(load_named(COMMANDS[command].config)):
        choices = tuple(str(word) for word in getattr(option.type, "__args__", ()) if isinstance(word, str))
        found.append((f"--{option.name.replace('_', '-')}", choices))
    return found


def _given(command: str) -> SearchStrategy[list[str]]:
    options = st.sampled_from(_options(command)).flatmap(
        lambda option: st.tuples(
            st.just(option[0]), OTHER_WORDS | st.sampled_from(option[1]) if option[1] else OTHER_WORDS
        ).map(list)
    )
    few = st.lists(options | OTHER_WORDS.map(lambda word: [word]), max_size=4)
    return few.map(lambda parts: [word for part in parts for word in part])


COMMAND_LINES = st.sampled_from(sorted(COMMANDS)).flatmap(lambda command: st.tuples(st.just(command), _given(command)))
