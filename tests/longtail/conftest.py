"""Fixtures of the long-tail tests: the command line on a few epochs of the embedded digits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tailmatch.cli import main

Longtail = Callable[..., int]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def longtail() -> Longtail:
    """`run.py longtail` with these words; returns the exit code."""

    def call(*words: object) -> int:
        return main(["longtail", "--threads", "1", "--device", "cpu", *map(str, words)])

    return call


@pytest.fixture
def result_of() -> Callable[[Path], dict[str, Any]]:
    return lambda folder: json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of cross-entropy that second stages and students start from; not to be changed."""
    out = tmp_path_factory.mktemp("plain") / "run"
    words = ["longtail", "--threads", "1", "--device", "cpu", "--epochs", "6", "--warmup", "0", "--out", str(out)]
    assert main(words) == 0
    return out
