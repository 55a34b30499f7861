"""Short long-tailed runs: what is evaluated, and that `evaluate` finds the same."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tailmatch.cli import main
from tailmatch.engine.command_line import parse_run
from tailmatch.engine.distributed import World
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import resolved
from tailmatch.longtail.task import LongtailTask

Longtail = Callable[..., int]
ResultOf = Callable[[Path], dict[str, Any]]


def task_of(*words: str, rank: int = 0, size: int = 1) -> LongtailTask:
    config = resolved(parse_run(LongtailConfig, "longtail", words, "run.py longtail"))
    return build_task(config, torch.device("cpu"), World(rank=rank, size=size))


@pytest.mark.parametrize("average", ["0", "0.999"])
def test_evaluate_finds_what_a_short_run_found(
    longtail: Longtail, result_of: ResultOf, tmp_path: Path, capsys: pytest.CaptureFixture[str], average: str
) -> None:
    """FixMatch's network, whose running statistics would still be the initial ones."""
    run = tmp_path / "run"
    options = ("--model", "wrn-10-1", "--epochs", "3", "--warmup", "0", "--ema-decay", average)
    assert longtail(*options, "--eval-every", "13", "--out", run) == 0
    result = result_of(run)
    assert result["evaluated_weights"]["batchnorm_statistics"] == "recomputed"
    assert result["evaluated_weights"]["ema_warmup"] is (average != "0")
    assert result["accuracy"]["last"]["all"] > 0.35  # 10 classes; with the running statistics it is chance
    shown = capsys.readouterr().out
    for kept, words in (("selected_on_val", ", selected on val"), ("best", ", best on test"), ("last", "")):
        last_column = re.search(rf"^  wrn-10-1{words} .* ([\d.]+)$", shown, re.MULTILINE)
        assert last_column is not None
        assert last_column[1] == f"{100 * result['accuracy'][kept]['all']:.1f}"
    assert main(["evaluate", str(run), "--device", "cpu", "--threads", "1"]) == 0
    found = re.search(r"test +([\d.]+) %", capsys.readouterr().out)
    assert found is not None
    assert found[1] == f"{100 * result['accuracy']['last']['all']:.1f}"


def test_a_second_stage_keeps_the_statistics_of_the_first(
    longtail: Longtail, result_of: ResultOf, plain_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--stage2", "crt", "--stage1", plain_run, "--epochs", "1", "--out", tmp_path / "crt")
    assert longtail(*words) == 0
    assert result_of(tmp_path / "crt")["evaluated_weights"]["batchnorm_statistics"] == "running"
    assert longtail(*words[:-1], tmp_path / "asked", "--batchnorm-statistics", "recomputed") == 2
    assert "has nothing to act on: this run moves no BatchNorm statistics" in capsys.readouterr().err


def test_statistics_come_from_what_the_sampler_draws_first_the_same_on_every_process() -> None:
    drawn = {}
    for sampler in ("instance", "class-balanced"):
        words = ("--sampler", sampler, "--steps", "9")
        tasks = [task_of(*words), task_of(*words, rank=0, size=2), task_of(*words, rank=1, size=2)]
        samples = [torch.cat(list(task.statistics_sample())) for task in tasks]
        assert torch.equal(samples[0], samples[1])
        assert torch.equal(samples[0], samples[2])
        labels = tasks[0].images.labels["train"][tasks[0].images.first_drawn]  # type: ignore[attr-defined]
        drawn[sampler] = torch.bincount(labels, minlength=10) / len(labels)
    assert drawn["class-balanced"].max() < 0.15 < drawn["instance"].max()
