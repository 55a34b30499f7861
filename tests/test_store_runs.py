"""Both tasks on a feature store, by the real command line: every method, resumed runs, and what has no meaning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from tailmatch.cli import main
from tailmatch.engine.task import Task
from tailmatch.longtail.task import LongtailTask
from tailmatch.ssl.task import SSLTask
from tests.stores import digits_store

SHORT = {
    "ssl": "--labels 40 --steps 6 --batch-size 8",
    "longtail": "--imbalance 20 --val-fraction 0.1 --steps 6 --batch-size 32",
}
Call = Callable[..., Path]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stores, not to be changed: with all views, with plain ones, and of other features."""
    folder = tmp_path_factory.mktemp("stores")
    digits_store(folder / "views")
    digits_store(folder / "plain", weak=0, strong=0)
    digits_store(folder / "one", weak=1)
    digits_store(folder / "other" / "views", scale=2.0)
    return folder


@pytest.fixture
def call(stores: Path, tmp_path: Path) -> Call:
    """A short run of a task on a store; gives its folder."""

    def run(task: str, words: str = "", store: str = "views", out: str = "run") -> Path:
        base = ["--dataset", "store", "--data-root", str(stores / store), "--threads", "1", "--device", "cpu"]
        assert main([task, *base, *SHORT[task].split(), *words.split(), "--out", str(tmp_path / out)]) == 0
        return tmp_path / out

    return run


@pytest.fixture
def refusal(stores: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(task: str, words: str, store: str = "views") -> str:
        assert main([task, "--dataset", "store", "--data-root", str(stores / store), *words.split()]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return run


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


@pytest.mark.parametrize("store", ["views", "plain"])
@pytest.mark.parametrize(
    "words",
    [
        "--algorithm supervised",
        "--algorithm fixmatch --model mlp-16x2",
        "--algorithm pi-model --model cosine",
        "--algorithm mean-teacher --loss ikl",
        "--algorithm freematch --loss gkl",
        "--algorithm fully-supervised --labels None",
        "--add-on abc",
        "--add-on crest",
        "--add-on darp daso --labels None --labeled-head 40 --unlabeled-head 60 --imbalance 10",
    ],
)
def test_semi_supervised_methods(call: Call, words: str, store: str) -> None:
    run = call("ssl", words, store)
    result = result_of(run)
    assert (result["status"], result["dataset"]) == ("finished", store)
    assert not (run / "views.png").exists()
    assert not (run / "confusions.npz").exists()
    assert np.load(run / "predictions.npz")["logits"].shape == (445, 10)


@pytest.mark.parametrize("store", ["views", "plain"])
@pytest.mark.parametrize(
    "words",
    [
        "",
        "--model cosine --train-view weak",
        "--model mlp-16x2 --label-loss balanced-softmax --sampler class-balanced",
        "--label-loss ldam --steps None --epochs 4 --drw 0.5",
        "--sampler class-aware --post-hoc-tau 1",
        "--loss gkl --teacher mlp-16 --baseline",
    ],
)
def test_long_tailed_methods(call: Call, words: str, store: str) -> None:
    result = result_of(call("longtail", words, store))
    assert (result["status"], result["dataset"]) == ("finished", store)
    assert sum(map(len, (result["groups"][name] for name in ("many", "medium", "few")))) == 10


def test_second_stages_and_given_teachers(call: Call, tmp_path: Path) -> None:
    first = call("longtail", "--model mlp-16", out="first")
    cosine = call("longtail", "--model cosine", out="cosine")
    for stage in ("crt", "lws", "tau-norm", "ncm"):
        steps = "--steps 4" if stage in ("crt", "lws") else ""
        words = f"longtail --stage2 {stage} --stage1 {first} {steps} --batch-size 32 --out {tmp_path / stage}"
        assert main([*words.split(), "--threads", "1", "--device", "cpu"]) == 0
    student = call("longtail", f"--loss kl --teacher-checkpoint {first}", out="student")
    assert result_of(student)["teacher"]["name"] == "mlp-16"
    student = call("longtail", f"--loss kl --teacher-checkpoint {cosine}", out="of-cosine")
    teacher = result_of(student)["teacher"]
    assert teacher["name"] == "cosine"
    assert teacher["accuracy"] == pytest.approx(result_of(cosine)["accuracy"]["last"])


def test_a_cosine_model_is_a_linear_one_with_a_cosine_head(call: Call) -> None:
    named = load_file(call("longtail", "--model cosine", out="named") / "weights.safetensors")
    headed = load_file(call("longtail", "--model linear --head cosine", out="headed") / "weights.safetensors")
    assert named.keys() == headed.keys() == {"fc.weight"}
    said = (call("longtail", "--model cosine --label-loss ldam", out="ldam") / "config.yaml").read_text()
    assert "head: cosine" in said


def power_cut(task: type[Task], monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    step = task.step

    def cut(self: Any, model: Any, number: int, profile: Any) -> Any:
        if number == at:
            raise RuntimeError("power cut")
        return step(self, model, number, profile)

    monkeypatch.setattr(task, "step", cut)


@pytest.mark.parametrize("store", ["views", "plain"])
@pytest.mark.parametrize(("task", "kind"), [("ssl", SSLTask), ("longtail", LongtailTask)])
def test_a_run_that_was_cut_off_ends_bit_identical(
    task: str,
    kind: type[Task],
    store: str,
    call: Call,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = "--eval-every 2" + (" --train-view weak" if task == "longtail" else "")
    whole = call(task, more, store, out="whole")
    with monkeypatch.context() as patch:
        power_cut(kind, patch, at=4)
        with pytest.raises(RuntimeError, match="power cut"):
            call(task, more, store, out="cut")
    resume = [task, "--resume", str(tmp_path / "cut"), "--threads", "1"]
    capsys.readouterr()
    assert main([*resume, "--data-root", str(stores / "other" / "views")]) == 2
    assert "was begun on another feature store than there is now" in capsys.readouterr().err
    assert main(resume) == 0
    assert (tmp_path / "cut" / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_rows_from_the_files_give_the_very_same_run(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from tailmatch.datasets import feature_bank

    runs = {task: call(task, out=f"{task}-whole") for task in SHORT}
    monkeypatch.setattr(feature_bank, "LARGEST_SHARE", 0.0)
    monkeypatch.setattr(feature_bank, "_last", [])
    for task, run in runs.items():
        found = call(task, out=f"{task}-files") / "weights.safetensors"
        assert found.read_bytes() == (run / "weights.safetensors").read_bytes()


def split_of(run: Path) -> str:
    return json.loads((run / "environment.json").read_text())["split_fingerprint"]


@pytest.mark.parametrize("task", SHORT)
def test_splits_have_the_fingerprints_of_the_images_own(task: str, call: Call, tmp_path: Path) -> None:
    stored = call(task, "--seed 5")
    words = ["--dataset", "digits", *SHORT[task].split(), "--seed", "5", "--threads", "1", "--device", "cpu"]
    assert main([task, *words, "--out", str(tmp_path / "images")]) == 0
    assert split_of(stored) == split_of(tmp_path / "images")


def test_a_teacher_that_is_trained_on_the_way_is_of_its_own_store(call: Call, tmp_path: Path) -> None:
    words = "--loss kl --teacher mlp-16"
    for number, store in enumerate(("views", "other/views", "views")):
        call("longtail", words, store, out=f"run{number}")
    assert len(list(tmp_path.glob("teacher-views-mlp-16-*-seed0"))) == 2


def test_what_comes_after_training(
    call: Call, stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        run = call("ssl", f"--seed {seed} --add-on logit-adjust-posthoc", out=f"run{seed}")
    said = capsys.readouterr().out
    assert f" predict {run} IMAGES" in said.splitlines()[-1]
    logits = tmp_path / "again.npz"
    assert main(["evaluate", str(run), "--out", str(logits)]) == 0
    np.testing.assert_array_equal(np.load(logits)["logits"], np.load(run / "predictions.npz")["logits"])
    assert main(["analyze", str(tmp_path / "run0"), str(run), "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.html").is_file()
    capsys.readouterr()
    image = tmp_path / "zero.png"
    Image.new("L", (8, 8)).save(image)
    assert main(["predict", str(run), str(image)]) == 2
    assert "features that `run.py embed` did not make" in capsys.readouterr().err
    assert main(["export", str(run), "--format", "onnx"]) == 2
    assert "is a head on the features of pixels times 1: export that with its own library" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "words", "said"),
    [
        ("ssl", "--model wrn-28-2", "wrn-28-2 takes images themselves; give --model linear, cosine, mlp-<width>"),
        ("longtail", "--model resnet32", "resnet32 takes images themselves"),
        ("longtail", "--loss kl --teacher resnet32", "resnet32 takes images themselves"),
        ("longtail", "--model cosine --head linear", "--model cosine is a cosine classifier; leave out --head linear"),
        ("longtail", "--crop-fill zero", "crop_fill is for images"),
        ("longtail", "--color-jitter 0.4", "color_jitter is for images in files"),
        ("longtail", "--pixel-mean 0.5", "pixel_mean is for images"),
        ("longtail", "--image-size 32", "image_size is for images"),
        ("ssl", "--image-size 32", "image_size is for images"),
        ("ssl", "--test-fraction 0.2", "test_fraction is for images"),
        ("ssl", "--model mlp-0", "Unknown model 'mlp-0'"),
        ("ssl", "--init torchvision", "torchvision publishes no weights of linear"),
    ],
)
def test_what_has_no_meaning_on_features_is_refused(
    refusal: Callable[..., str], task: str, words: str, said: str
) -> None:
    assert said in refusal(task, words)


def test_two_weak_views_that_are_one_are_refused(refusal: Callable[..., str]) -> None:
    said = refusal("ssl", "--algorithm pi-model --steps 2 --batch-size 8 --threads 1", store="one")
    assert "one has one weak view of an image" in said


@pytest.mark.parametrize("task", SHORT)
@pytest.mark.parametrize("words", ["--model linear", "--model mlp-16", "--train-view weak"])
def test_what_has_no_meaning_on_images_is_refused(task: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if task == "ssl" and "view" in words:
        return
    assert main([task, "--dataset", "digits", *words.split()]) == 2
    said = capsys.readouterr().err
    assert "classifies stored features" in said or "train_view is for feature stores" in said


def test_a_store_is_not_embedded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "--dataset", "store", "--data-root", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "Unknown dataset 'store'" in capsys.readouterr().err


def test_a_run_of_ours_embeds_its_images_and_others_train_on_the_store(tmp_path: Path) -> None:
    """The backbone, the store, both tasks on it with the images' own splits, and its logits for a teacher."""
    on_cpu = ["--threads", "1", "--device", "cpu"]
    backbone, store = tmp_path / "backbone", tmp_path / "digits"
    images = ["--dataset", "digits", *SHORT["longtail"].split(), *on_cpu]
    assert main(["longtail", *images, "--model", "cnn-digits", "--out", str(backbone)]) == 0
    assert (
        main(["embed", "--dataset", "digits", "--backbone", str(backbone), "--out", str(store), "--strong", "2"]) == 0
    )
    stored = ["--dataset", "store", "--data-root", str(store), *on_cpu]
    assert main(["ssl", *stored, *SHORT["ssl"].split(), "--out", str(tmp_path / "ssl")]) == 0
    student = tmp_path / "student"
    words = [*stored, *SHORT["longtail"].split(), "--loss", "kl", "--teacher-store", str(store)]
    assert main(["longtail", *words, "--out", str(student)]) == 0
    assert split_of(student) == split_of(backbone)
    teacher = result_of(student)["teacher"]["accuracy"]["all"]
    assert teacher == pytest.approx(result_of(backbone)["accuracy"]["last"]["all"], abs=0.005)  # half precision
