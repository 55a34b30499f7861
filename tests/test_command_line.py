"""The command line from end to end: `run.py ssl` on the embedded digits, and every refusal in one sentence."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tailmatch.cli import main
from tailmatch.commands import COMMANDS
from tailmatch.engine import loop

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--threads", "1", "--device", "cpu", "--steps", "6", "--batch-size", "4", "--lr", "0.03"]
TINY += ["--eval-every", "3", "--log-every", "2"]
SSL = ["ssl", "--loss", "ikl", *TINY]
TIMINGS = ("seconds", "train/images_per_second", "images_per_second", "metrics_sha256", "tailmatch_sha256")

Capture = pytest.CaptureFixture[str]


def command(*words: str) -> int:
    """The exit code of a command line, whichever way it ends."""
    try:
        return main(words)
    except SystemExit as stop:  # tyro's own refusals
        return int(stop.code or 0)


def contents(path: Path) -> dict[str, object]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((path / "result.json").read_text())
    return {
        "rows": [{tag: value for tag, value in row.items() if tag not in TIMINGS} for row in rows],
        "result": {key: value for key, value in result.items() if key not in (*TIMINGS, "name")},
        "weights": (path / "weights.safetensors").read_bytes(),
        "logits": np.load(path / "predictions.npz", allow_pickle=False)["logits"].tobytes(),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "größer als 0"
    assert main([*SSL, "--out", str(out)]) == 0
    return out


# -- the run folder ----------------------------------------------------------------------------------------------------


def test_a_run_leaves_all_its_files(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    documented = {"config.yaml", "environment.json", "metrics.jsonl", "predictions.npz", "result.json"}
    assert names == documented | {"weights.safetensors", "checkpoints", "tensorboard", "views.png", "confusions.npz"}
    assert len(list((finished / "checkpoints").iterdir())) == 2
    assert list((finished / "tensorboard").glob("events.*"))


def test_the_result_has_the_documented_keys(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert {"schema", "task", "name", "dataset", "algorithm", "loss", "model", "seed", "groups"} <= set(result)
    assert (result["schema"], result["status"], result["task"], result["steps"]) == (1, "finished", "ssl", 6)
    assert result["name"] == "größer als 0"
    assert set(result["accuracy"]) == {"last", "best"}  # no twenty evaluations to take a median of
    for accuracy in result["accuracy"].values():
        assert set(accuracy) == {"all", "many", "medium", "few"}
        assert all(value is None or 0 <= value <= 1 for value in accuracy.values())
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0


def test_the_metrics_have_the_documented_tags(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    losses = {"train/loss", "train/loss_supervised", "train/loss_consistency", "train/lr", "train/images_per_second"}
    assert all({"step", "seconds"} | losses <= set(row) for row in rows)
    tags = {f"eval/accuracy/{group}" for group in ("all", "many", "medium", "few")} | {"eval/online_accuracy/all"}
    tags |= {"ssl/utilisation/all", "ssl/pseudo_label_accuracy/all", "ssl/pseudo_label_accuracy/class_9"}
    assert tags <= set(rows[-1])
    assert not tags & set(rows[0])


def test_predictions_weights_and_accuracy_agree(finished: Path) -> None:
    from tailmatch.models import build_model

    with np.load(finished / "predictions.npz", allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    assert found["logits"].shape == (len(found["labels"]), 10)
    assert found["train_class_counts"].tolist() == [4] * 10
    assert found["class_names"].tolist() == list("0123456789")
    accuracy = (found["logits"].argmax(1) == found["labels"]).mean()
    assert json.loads((finished / "result.json").read_text())["accuracy"]["last"]["all"] == pytest.approx(accuracy)
    name = json.loads((finished / "result.json").read_text())["model"]
    build_model(name, 10, 1, 8).load_state_dict(load_file(finished / "weights.safetensors"))


def test_the_class_means_stand_in_the_checkpoint(finished: Path) -> None:
    newest = load_file(sorted((finished / "checkpoints").iterdir())[-1])
    (name,) = [name for name in newest if name.startswith("task.") and name.endswith("class_means.means")]
    assert newest[name].shape == (10, 10)


def test_the_environment_tells_how_to_make_the_run_again(finished: Path) -> None:
    environment = json.loads((finished / "environment.json").read_text())
    about = {"schema", "versions", "device", "threads", "commit", "seed", "split_fingerprint", "command", "started"}
    assert about <= set(environment)


def test_a_finished_run_is_never_written_over(finished: Path, capsys: Capture) -> None:
    before = contents(finished)
    assert command(*SSL, "--out", str(finished)) == 2
    assert "already holds a finished run; choose another --out or remove the folder." in capsys.readouterr().err
    assert contents(finished) == before


def test_nor_is_a_teacher_trained_for_a_folder_that_is_taken(finished: Path, capsys: Capture) -> None:
    assert command("longtail", "--loss", "ikl", *TINY, "--out", str(finished)) == 2
    printed = capsys.readouterr()
    assert "already holds a finished run" in printed.err
    assert printed.out == ""


# -- the configuration -------------------------------------------------------------------------------------------------

SHARED = ["config", "dataset", "data-root", "model", "steps", "batch-size", "lr", "seed", "device", "workers"]
SHARED += ["out", "resume", "threads"]


def help_of(name: str, capsys: Capture) -> str:
    assert command(name, "--help") == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, row in COMMANDS.items() if row.trains])
def test_every_task_shares_these_names(name: str, capsys: Capture) -> None:
    text = help_of(name, capsys)
    compared_by = "method" if name == "distill" else "loss"
    assert not [option for option in [*SHARED, compared_by] if f"--{option} " not in text]
    for word in ("--print-config", "--dry-run", "cosine-7-16", "(default: ", "optim options", "run options"):
        assert word in text


def test_ssl_has_its_own_beside_them(capsys: Capture) -> None:
    text = help_of("ssl", capsys)
    own = ("--algorithm ", "--labels ", "--unlabeled-ratio ", "--threshold ", "--loss.beta ", "--add-on.daso.queue ")
    assert not [option for option in own if option not in text]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--algorithm", "supervised"],
        ["--algorithm", "freematch", "--loss", "gkl", "--loss.gamma", "0.5"],
        ["--dataset", "digits-lt", "--add-on", "logit-adjust", "abc", "--add-on.abc.weight", "0.5"],
        ["--schedule", "multistep", "--milestones", "0.5", "0.75", "--lr", "1e-4", "--no-nesterov"],
        ["--config", "cifar10_40", "--data-root", "/somewhere/ä b"],
    ],
)
def test_the_printed_configuration_reads_back_to_itself(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert command("ssl", *words, "--print-config") == 0
    printed = capsys.readouterr().out
    (tmp_path / "again.yaml").write_text(printed, encoding="utf-8")
    assert command("ssl", "--config", str(tmp_path / "again.yaml"), "--print-config") == 0
    assert capsys.readouterr().out == printed
    assert yaml.safe_load(printed)["task"] == "ssl"


def test_a_run_folder_is_a_recipe(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    assert command("ssl", "--config", str(finished), "--print-config") == 0
    checksum, _, recorded = (finished / "config.yaml").read_text(encoding="utf-8").partition("\n")
    assert capsys.readouterr().out == recorded
    assert checksum.startswith("# tailmatch_sha256: ")
    assert command("ssl", "--config", str(finished), "--out", str(tmp_path / "again")) == 0
    assert contents(tmp_path / "again") == contents(finished)  # the same seed, the same run


def test_another_seed_is_another_split_in_another_order(finished: Path, tmp_path: Path) -> None:
    assert command("ssl", "--config", str(finished), "--seed", "1", "--out", str(tmp_path / "other")) == 0
    places = (finished, tmp_path / "other")
    fingerprints = [json.loads((p / "environment.json").read_text())["split_fingerprint"] for p in places]
    assert fingerprints[0] != fingerprints[1]
    assert contents(tmp_path / "other")["weights"] != contents(finished)["weights"]


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*SSL, "--dry-run") == 0
    text = capsys.readouterr().out
    for words in ("40 labelled", "4 4 4 4 4 4 4 4 4 4", "1,352", "\nparameters ", "\nsteps             6 of 32 images"):
        assert words in text
    assert "learning rate     0.03 at 0" in text
    assert not list(tmp_path.iterdir())


def test_profile_prints_the_shares_of_a_step(tmp_path: Path, capsys: Capture) -> None:
    assert command(*SSL, "--out", str(tmp_path / "run"), "--profile") == 0
    text = capsys.readouterr().out
    for section in ("data", "augmentation", "forward", "backward", "optimizer", "EMA", "logging"):
        assert f"\n{section} " in text


# -- interrupted and resumed -------------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Nothing catches this one."""


@pytest.mark.parametrize("step", [0, 3, 5])
def test_cut_off_and_resumed_it_ends_the_same(
    step: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step: Callable[..., None] = loop.Trainer._train_step

    def cut(self: loop.Trainer) -> None:
        if self.step == step:
            raise PowerCut
        train_step(self)

    words = [*SSL, "--out", str(tmp_path / "run"), "--resume"]
    with monkeypatch.context() as patched:
        patched.setattr(loop.Trainer, "_train_step", cut)
        with pytest.raises(PowerCut):
            main(words)
    assert main(words) == 0
    assert contents(tmp_path / "run") == contents(finished)


@pytest.mark.skipif(os.name != "posix", reason="no such signals")
def test_ctrl_c_and_kill_of_the_real_command(tmp_path: Path, capsys: Capture) -> None:
    """First kill -9 once there is a checkpoint, then Ctrl-C a few steps later, then to the end."""
    words = ["ssl", "--loss", "ikl", *TINY, "--steps", "60", "--eval-every", "20", "--checkpoint-every", "5"]
    out = tmp_path / "run"
    real = [sys.executable, str(ROOT / "run.py"), *words, "--out", str(out), "--resume"]
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = set(out.glob("checkpoints/step_*"))
        with subprocess.Popen(real, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and set(out.glob("checkpoints/step_*")) <= before:
                time.sleep(0.005)
            process.send_signal(number)
            printed, complaint = process.communicate()
        assert process.returncode == code, complaint
        assert complaint == ""
        if code == 130:
            assert f"go on with --resume {out}" in printed
    assert main(["ssl", "--resume", str(out)]) == 0
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "peaceful")]) == 0
    assert contents(out) == contents(tmp_path / "peaceful")
    assert not list(out.rglob("*.tmp"))


def test_resuming_a_finished_run_shows_its_table(finished: Path, capsys: Capture) -> None:
    before = contents(finished)
    for words in (["--resume", str(finished)], ["--out", str(finished), "--resume"], [f"--resume={finished}"]):
        assert command("ssl", *words) == 0
        assert f"written to        {finished}" in capsys.readouterr().out
    assert contents(finished) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--lr", "0.1"], "but this call changes lr 0.03 -> 0.1; leave these out, or start a new run with --config "),
        (["--seed", "4", "--loss", "kl"], "but this call changes loss ikl -> kl, seed 0 -> 4;"),
        (["--config", "digits"], "--resume takes its configuration from the run folder; leave out --config."),
        (["--out", "elsewhere"], "writes to that same folder; leave out --out elsewhere."),
    ],
)
def test_a_resumed_run_keeps_its_configuration(
    words: list[str], sentence: str, finished: Path, capsys: Capture
) -> None:
    assert command("ssl", "--resume", str(finished), *words) == 2
    assert sentence in capsys.readouterr().err


def test_there_must_be_a_run_to_resume(tmp_path: Path, capsys: Capture) -> None:
    assert command("ssl", "--resume", str(tmp_path)) == 2
    sentence = "holds no run to resume: config.yaml is missing; give the folder that an earlier run wrote.\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert command("ssl", "--resume", str(tmp_path / "typo")) == 2
    assert "typo is no run folder; give the folder that an earlier run wrote." in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
    (tmp_path / "mine.txt").touch()
    assert command(*SSL, "--out", str(tmp_path), "--resume") == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err


def test_a_loss_that_explodes_is_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    assert command(*SSL, "--lr", "1e30", "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: The loss became ")
    assert "no checkpoint had been written yet. Try a lower --lr" in error
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--steps 0", "steps must be at least 1, got 0."),
        ("--labels 41", "41 labels cannot be shared equally by 10 classes"),
        ("--labels -1", "labels must be above 0, got -1."),
        ("--labels 100000", "Class '0' has 134 images, but the split asks for 10000 of it; ask for less."),
        ("--batch-size 0", "batch_size must be above 0, got 0."),
        ("--seed -1", "seed must lie between 0 and 2^63 - 1, got -1."),
        ("--seed 99999999999999999999", "seed must lie between 0 and 2^63 - 1"),
        ("--lr nan", "lr must be a finite number, got nan."),
        ("--lr inf", "lr must be a finite number, got inf."),
        ("--threshold 2", "threshold must be a finite number at least 0 and at most 1; got 2.0"),
        ("--eval-every 0", "eval_every must be above 0, got 0."),
        ("--eval-every epoch", "eval_every epoch is for longtail"),
        ("--loss ikk", "Unknown loss 'ikk'. Did you mean 'ikl'? Allowed: "),
        ("--loss.gamma 3", "Loss 'ikl' has no option 'gamma'; its options are: "),
        ("--loss.temperature 0", "temperature must be a finite number greater than 0"),
        ("--algorithm fixmach", "Unknown algorithm 'fixmach'. Did you mean 'fixmatch'?"),
        ("--dataset digit", "Unknown dataset 'digit'. Did you mean 'digits'?"),
        ("--model wrn-28", "Unknown model 'wrn-28'. Did you mean 'wrn-28-"),
        ("--config digit", "Unknown recipe 'digit'. Did you mean 'digits'?"),
        ("--config digits_lt", "this recipe is for `run.py longtail`, not `run.py ssl`."),
        ("--dataset folder --data-root /nowhere", "There is no folder /nowhere"),
        ("--dataset npz --data-root /nowhere.npz", "There is no file /nowhere.npz"),
        ("--dataset npz", "--data-root"),
        ("--precision fp16", "Precision 'fp16' needs a GPU; on the CPU use fp32 or bf16."),
        ("--resume", "--resume needs the run folder to go on with"),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing_behind(
    words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*SSL, *words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--sede", "3"], "--seed"),
        (["--loss.betta", "3"], "--loss.beta"),
        (["--btach-size", "3"], "--batch-size"),
        (["--device", "gpu"], "cuda"),
        (["--labels", "3.5"], "--labels"),
        (["--config"], "--config"),
    ],
)
def test_misspelt_options_name_the_nearest(words: list[str], hint: str, capsys: Capture) -> None:
    assert command("ssl", *words) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert "Traceback" not in printed.err


def test_misspelt_commands_name_the_nearest(capsys: Capture) -> None:
    assert command("longtial") == 2
    sentence = "error: Unknown command 'longtial'. Did you mean 'longtail'? Allowed: ssl, longtail"
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_a_gpu_that_is_not_there(capsys: Capture) -> None:
    assert command(*SSL, "--device", "cuda") == 2
    assert capsys.readouterr().err.startswith("error: Device 'cuda' is not available here; use one of: auto, ")


def test_places_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("mine")
    assert command(*SSL, "--out", str(tmp_path / "file")) == 2
    assert "file exists and is not an empty folder; choose another --out." in capsys.readouterr().err
    assert command(*SSL, "--out", str(tmp_path / "file" / "run")) == 2
    assert capsys.readouterr().err.endswith("Not a directory; a part of this path is a file and not a folder.\n")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; make room, then go on with --resume."),
        (errno.EACCES, "Permission denied; choose a place that you may write to with --out."),
        (errno.EROFS, "Read-only file system; choose a place that you may write to with --out."),
        (errno.EIO, "Input/output error; look after the disk, then go on with --resume."),
    ],
)
def test_what_the_system_refuses_is_said_with_its_place(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    assert command(*SSL, "--out", str(tmp_path / "run")) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'run' / 'environment.json'}: {advice}\n"


def test_a_full_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def refuse(self: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loop.Trainer, "_train_step", refuse)
    assert command(*SSL, "--out", str(tmp_path / "run")) == 2
    assert capsys.readouterr().err == "error: The memory is full; take a smaller --batch-size or --model.\n"


def test_a_pipe_that_closes_is_no_error(tmp_path: Path) -> None:
    shown = subprocess.run(
        f"{sys.executable} {ROOT / 'run.py'} ssl --help | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert shown.stderr == ""
    assert shown.stdout.startswith("usage: ")
