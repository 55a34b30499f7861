"""`compare`: what its words mean, what it refuses, how long it says it takes, and a comparison from call to report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tailmatch.cli import main
from tailmatch.engine.suite import compare, look_ahead
from tailmatch.engine.suite.axes import Axes, read_axes, split_words
from tailmatch.engine.suite.compare import in_words
from tailmatch.engine.suite.config import CompareConfig
from tailmatch.errors import UserError
from tailmatch.longtail.config import LongtailConfig
from tailmatch.ssl.config import SSLConfig

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["--", "--steps", "6", "--batch-size", "4", "--eval-every", "3"]

Capture = pytest.CaptureFixture[str]


def axes(words: str, task: str = "ssl") -> Axes:
    _, compared, after = split_words(words.split(), CompareConfig)
    return read_axes(task, SSLConfig if task == "ssl" else LongtailConfig, compared, after)


def refusal(words: str, task: str = "ssl") -> str:
    with pytest.raises(UserError) as error:
        axes(words, task)
    return str(error.value)


# -- words ------------------------------------------------------------------------------------------------------------


def test_options_with_several_values_are_the_axes_and_those_after_the_dashes_are_common() -> None:
    found = axes("ssl --algorithm fixmatch flexmatch --loss=ce ikl --seeds 4 -- --lr 1e-2 --add-on abc daso")
    assert found.compared == {"algorithm": ["fixmatch", "flexmatch"], "loss": ["ce", "ikl"]}
    assert found.common == {"lr": ["1e-2"], "add_on": [["abc", "daso"]]}


@pytest.mark.parametrize(
    ("words", "task", "compared"),
    [
        ("--drw default 0.8", "longtail", {"drw": [None, "0.8"]}),
        ("--milestones 0.5,0.75 0.8", "longtail", {"milestones": [["0.5", "0.75"], ["0.8"]]}),
        ("--add-on default abc abc,daso", "ssl", {"add_on": [None, ["abc"], ["abc", "daso"]]}),
        ("--nesterov --no-nesterov", "ssl", {"nesterov": ["true", "false"]}),
        ("--decay-all yes no", "ssl", {"decay_all": ["yes", "no"]}),
        ("--loss ce --loss kl", "ssl", {"loss": ["ce", "kl"]}),
        ("--student resnet32 resnet20", "longtail", {"model": ["resnet32", "resnet20"]}),
        ("--loss.beta 0.1 1", "ssl", {"loss.beta": ["0.1", "1"]}),
        ("--batch_size 8 16", "ssl", {"batch_size": ["8", "16"]}),
        ("--config digits", "ssl", {"config": ["digits"]}),
    ],
)
def test_words_become_values(words: str, task: str, compared: dict[str, list[object]]) -> None:
    assert axes(words, task).compared == compared


def test_the_words_of_compare_itself_stay_apart() -> None:
    own, compared, after = split_words(
        ["--jobs", "2", "ssl", "--dry-run", "--loss", "ce", "kl", "--slurm-time", "3", "--", "--lr", "1"], CompareConfig
    )
    assert own == ["--jobs", "2", "ssl", "--dry-run", "--slurm-time", "3"]
    assert compared == [("--loss", ["ce", "kl"])]
    assert after == ["--lr", "1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--algoritm fixmatch flexmatch", "Unknown option --algoritm of ssl. Did you mean '--algorithm'?"),
        ("--loss ce kl -- --epoch 3", "Unknown option --epoch of ssl."),
        ("--lr 0.1 fast", "--lr must be a number, got 'fast'."),
        ("--labels 40 4.5", "--labels must be a whole number"),
        ("--unlabeled-shape consistent even", "--unlabeled-shape must be one of consistent, uniform, reversed"),
        ("--loss ce ce", "--loss ce is given twice"),
        ("--loss ce kl -- --loss ikl", "--loss stands before and after --"),
        ("--loss ce kl -- --lr 0.1 0.2", "--lr after -- has one value for every run"),
        ("--loss", "--loss needs a value"),
        ("--no-nesterov 3", "--no-nesterov takes no value."),
        ("--seed 1 2", "--seed is not to be compared; --seeds, --out, --threads and --track stand before --."),
        ("--resume runs/x", "--resume is not to be compared"),
        ("--loss ce kl -- --track wandb", "--track is not to be compared"),
        ("", "There is nothing to compare"),
        ("--loss ce kl -- 3", "After -- come options of every run, got '3'."),
    ],
)
def test_words_without_a_meaning_are_refused(words: str, message: str) -> None:
    assert message in refusal(words)


def test_the_same_comparison_has_the_same_name_and_another_has_another() -> None:
    name = axes("--algorithm fixmatch uda --loss ce kl -- --steps 9").name
    assert name.startswith("ssl-fixmatch+uda-ce+kl-")
    assert axes("--algorithm fixmatch uda --loss ce kl -- --steps 9").name == name
    assert axes("--algorithm fixmatch uda --loss ce kl -- --steps 8").name != name
    assert len(axes("--algorithm fixmatch uda --lr " + " ".join(f"0.{n}" for n in range(1, 90))).name) < 70


def test_the_file_says_the_same() -> None:
    words = "--loss ce no,1 --nesterov --no-nesterov --labels 40 100 -- --add-on abc daso --lr 1e-2 --steps 20"
    text = axes(words.replace("no,1", "kl")).suite_file(2, [{"loss": "kl", "labels": "40"}], "run.py compare")
    assert yaml.safe_load(text) == {
        "task": "ssl",
        "seeds": [0, 1],
        "options": {"add_on": [["abc", "daso"]], "lr": "1e-2", "steps": 20},
        "runs": [{"loss": ["ce", "kl"], "nesterov": [True, False], "labels": [40, 100]}],
        "exclude": [{"loss": "kl", "labels": 40}],
    }


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (99, "99 s"), (720, "12 minutes"), (9000, "2.5 hours"), (5e5, "6 days")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# -- from end to end --------------------------------------------------------------------------------------------------


def test_a_comparison_runs_like_its_suite_and_the_same_call_goes_on(tmp_path: Path, capsys: Capture) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept.yaml"
    call = ["compare", "ssl", "--loss", "ce", "kl", "--seeds", "1", "--out", str(out), "--save", str(kept)]
    assert main([*call, "--dry-run", *SHORT]) == 0
    said = capsys.readouterr().out
    assert "2 runs to go, about " in said
    assert "(an estimate, from 8 steps of 2 of 2 methods on this machine)" in said
    assert kept.exists()
    assert not out.exists()

    assert main([*call, *SHORT]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 runs finished, 2 of them now" in said
    assert (out / "analysis" / "report.html").exists()
    results = [json.loads((out / name / "result.json").read_text()) for name in ("ce-s0", "kl-s0")]
    assert [result["loss"] for result in results] == ["ce", "kl"]
    assert [result["steps"] for result in results] == [6, 6]

    assert main([*call, *SHORT]) == 0
    said = capsys.readouterr().out
    assert "all runs are finished" in said
    assert "2 of 2 runs finished, 0 of them now" in said
    assert main(["suite", str(kept), "--out", str(out), "--dry-run"]) == 0
    assert "(2 finished)" in capsys.readouterr().out
    assert main([*call[:3], "kl", "ikl", *call[5:], *SHORT]) == 2
    assert "kept.yaml holds something else already" in capsys.readouterr().err


def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["compare", "ssl", "--loss", "ce", "kl", "--seeds", "1", "--out", str(out), "--jobs", "1"]
    words += ["--", "--steps", "4000", "--batch-size", "4", "--eval-every", "20", "--log-every", "5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(ROOT / "run.py"), *words]
    first = subprocess.Popen(call, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 240
    while not list(out.glob("*/checkpoints/*.safetensors")):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "Stopped; go on with the same call: python run.py compare ssl" in said
    assert (out / "suite.yaml").exists()
    begun = [path.parent.name for path in out.glob("*/config.yaml")]
    assert begun == ["ce-s0"]

    second = subprocess.Popen(call, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    while "--resume" not in (out / "ce-s0" / "log.txt").read_text().rpartition("$ run.py")[2]:
        assert second.poll() is None
        assert time.monotonic() < end + 240
        time.sleep(0.2)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=120)


def test_combinations_without_a_meaning_are_named_before_the_first_run(tmp_path: Path, capsys: Capture) -> None:
    call = ["compare", "ssl", "--targets", "hard", "soft", "--loss", "ce", "kl", "--seeds", "2", "--dry-run"]
    assert main([*call, "--out", str(tmp_path / "out"), *SHORT]) == 2
    said = capsys.readouterr().err
    assert "4 of 8 runs cannot be trained:" in said
    assert "hard-kl-s0 and 1 more: Hard targets are a class" in said
    assert "soft-ce-s0 and 1 more: --loss ce takes the most likely class" in said
    assert "--skip-refused leaves these out." in said


def test_refused_combinations_can_be_left_out(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "estimate", lambda runs, engine: f"{len(runs)} runs")
    monkeypatch.setattr(look_ahead, "rehearse", lambda runs, *_: [{}] * len(runs))
    kept = tmp_path / "kept.yaml"
    call = ["compare", "ssl", "--targets", "hard", "soft", "--loss", "ce", "kl", "--seeds", "2", "--dry-run"]
    assert main([*call, "--skip-refused", "--save", str(kept), "--out", str(tmp_path / "out"), *SHORT]) == 0
    said = capsys.readouterr().out
    assert "left out: hard-kl: Hard targets" in said
    assert "left out: soft-ce: --loss ce" in said
    assert "4 runs" in said
    excluded = yaml.safe_load(kept.read_text())["exclude"]
    assert excluded == [{"targets": "hard", "loss": "kl"}, {"targets": "soft", "loss": "ce"}]


def test_nothing_that_has_a_meaning_is_refused_all_the_same(tmp_path: Path, capsys: Capture) -> None:
    assert main(["compare", "ssl", "--targets", "hard", "--loss", "kl", "ikl", "--skip-refused", "--dry-run"]) == 2
    assert "6 of 6 runs cannot be trained" in capsys.readouterr().err


def test_help_of_compare_and_an_unknown_task(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "ssl", "--loss", "ce", "kl", "--help"])
    assert "--skip-refused" in capsys.readouterr().out
    assert main(["compare", "sll", "--loss", "ce", "kl"]) == 2
    assert "Did you mean 'ssl'?" in capsys.readouterr().err
