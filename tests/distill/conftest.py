"""Fixtures of the tests of learning from a teacher."""

from pathlib import Path

import pytest
import torch

from tailmatch.cli import main


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of cross-entropy, a teacher for others; not to be changed."""
    out = tmp_path_factory.mktemp("plain") / "run"
    short = ["--epochs", "2", "--warmup", "0", "--out", str(out)]
    assert main(["distill", "--method", "none", "--threads", "1", "--device", "cpu", *short]) == 0
    return out
