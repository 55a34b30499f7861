"""A teacher from a store of the same images: its logits, or a head that was trained on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailmatch.cli import main
from tailmatch.distill.step import Distillation
from tailmatch.engine.distributed import World
from tailmatch.engine.profile import Profile
from tailmatch.features import LogitsPlan, open_store
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import DistillationOptions, LongtailConfig, MethodOptions, TeacherLossOptions
from tailmatch.longtail.data_options import DataOptions
from tailmatch.longtail.resolve import resolved
from tests.stores import digits_store

Call = Callable[..., int]
TAIL = ("--imbalance", "20", "--steps", "4", "--batch-size", "32")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of the digits, not to be changed: a coarse one, and sharp ones with logits, in another order."""
    folder = tmp_path_factory.mktemp("stores")
    digits_store(folder / "coarse", weak=0, strong=0)
    digits_store(folder / "sharp", scale=2.0, weak=0, strong=0, order=-1, logits=LogitsPlan(classes=10))
    digits_store(folder / "backbone", scale=4.0, logits=LogitsPlan(classes=17, of="backbone"))
    digits_store(folder / "part", scale=3.0, order=2, logits=LogitsPlan(classes=10))
    return folder


@pytest.fixture
def call(stores: Path) -> Call:
    def run(*words: object, store: str = "coarse") -> int:
        data = ["--dataset", "store", "--data-root", str(stores / store), "--threads", "1", "--device", "cpu"]
        return main(["longtail", *data, *TAIL, *map(str, words)])

    return run


def result_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text())


def config_of(data: DataOptions, store: Path) -> LongtailConfig:
    return resolved(
        LongtailConfig(
            data=data,
            method=MethodOptions(model="linear" if data.dataset == "store" else "wrn-digits"),
            distillation=DistillationOptions(teacher_store=store),
            loss=TeacherLossOptions(name="kl"),
        )
    )


@pytest.mark.parametrize("dataset", ["store", "digits"])
def test_every_image_is_given_its_own_logits(stores: Path, dataset: str) -> None:
    """Of a student on a store and of one on the images themselves, whatever the order and the tail."""
    data = DataOptions(
        dataset=dataset, data_root=stores / "coarse" if dataset == "store" else None, imbalance=20, val_fraction=0.1
    )
    task = build_task(config_of(data, stores / "sharp"), torch.device("cpu"), World())
    sharp = open_store(stores / "sharp")
    by_digest = {
        digest.tobytes(): logits
        for split in ("train", "test")
        for digest, logits in zip(sharp[split].digests(), sharp[split].logits(), strict=True)
    }
    batch = task.images.batch(3, Profile(False, torch.device("cpu")))
    assert isinstance(task.method, Distillation)
    found = task.method.teacher(batch.images, batch.indices)
    digests = task.images.digests("train")[batch.indices]
    expected = np.stack([by_digest[digest.tobytes()] for digest in digests])
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(task.images.labels["train"][batch.indices], batch.labels)
    assert task.teacher is not None
    expected = np.stack([by_digest[digest.tobytes()] for digest in task.images.digests("test")])
    np.testing.assert_array_equal(task.teacher.test_logits, expected)


def test_logits_of_a_store_teach(call: Call, stores: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    assert call("--loss", "ikl", "--teacher-store", stores / "sharp", "--baseline", "--out", out) == 0
    teacher = result_of(out)["teacher"]
    assert (teacher["name"], teacher["checkpoint"]) == ("logits of sharp", str(stores / "sharp"))
    logits = np.load(out / "predictions.npz")["teacher_logits"]
    labels = np.load(out / "predictions.npz")["labels"]
    assert teacher["accuracy"]["all"] == pytest.approx((logits.argmax(1) == labels).mean())
    assert main(["evaluate", str(out)]) == 0


def test_a_head_on_another_store_teaches_as_it_was_evaluated(call: Call, stores: Path, tmp_path: Path) -> None:
    head, out = tmp_path / "head", tmp_path / "student"
    assert call("--model", "mlp-16", "--out", head, store="sharp") == 0
    words = ("--loss", "kl", "--teacher-checkpoint", head)
    assert call(*words, "--teacher-store", stores / "sharp", "--out", out) == 0
    teacher = result_of(out)["teacher"]
    assert (teacher["name"], teacher["checkpoint"], teacher["store"]) == ("mlp-16", str(head), str(stores / "sharp"))
    assert teacher["accuracy"] == pytest.approx(result_of(head)["accuracy"]["last"])


def test_a_teacher_of_other_images_or_features_is_refused(
    call: Call, stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tmp_path / "head"
    assert call("--model", "mlp-16", "--out", head, store="sharp") == 0
    capsys.readouterr()

    def refusal(*words: object) -> str:
        assert call("--loss", "kl", *words, "--out", tmp_path / "refused") == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert not (tmp_path / "refused").exists()
        return said

    assert "part is not of the images of coarse: " in refusal("--teacher-store", stores / "part")
    said = refusal("--teacher-store", stores / "coarse")
    assert "coarse holds no logits, and a teacher says something of the 10 classes" in said
    assert "backbone holds logits of 17 classes of its backbone" in refusal("--teacher-store", stores / "backbone")
    for words in ((), ("--teacher-store", stores / "coarse")):
        said = refusal("--teacher-checkpoint", head, *words)
        assert f"{head} was trained on the feature store {open_store(stores / 'sharp').id[:12]}" in said
        assert "give its own store as --teacher-store" in said
    assert "--teacher-store alone has none" in refusal("--teacher-store", stores / "sharp", "--teacher", "mlp-16")
    assert "holds no feature store" in refusal("--teacher-store", tmp_path)
    assert main(["longtail", "--teacher-store", str(stores / "sharp")]) == 2
    assert "for a loss against a teacher, and none is given" in capsys.readouterr().err
    words = ["longtail", "--stage2", "crt", "--stage1", str(head), "--data-root", str(stores / "coarse")]
    assert main([*words, "--steps", "2", "--batch-size", "32", "--out", str(tmp_path / "refused")]) == 2
    assert "point --data-root to its own store" in capsys.readouterr().err


def test_the_suite_of_distillation_between_stores_runs_on_any_two(stores: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("--data-root", str(stores / "coarse"), "--teacher-store", str(stores / "sharp"), "--steps", "4")
    asked = ["store_distillation", "--no-tune", "--seeds", "0", "--only", "imbalance1-*kl-s0", "--out", str(out)]
    assert main(["suite", *asked, "--", *given, "--batch-size", "32"]) == 0
    finished = {run.parent.name: result_of(run.parent) for run in out.glob("*/result.json")}
    assert finished.keys() == {
        "teacher-imbalance1-s0",
        *(f"imbalance1-{loss}-s0" for loss in ("kl", "dkl", "ikl", "gkl")),
    }
    sharp, coarse = (open_store(stores / name).id for name in ("sharp", "coarse"))
    assert {name: result["store"] for name, result in finished.items()} == {
        name: sharp if name.startswith("teacher") else coarse for name in finished
    }
    teacher = finished["teacher-imbalance1-s0"]["accuracy"]["last"]["all"]
    assert finished["imbalance1-kl-s0"]["teacher"]["accuracy"]["all"] == pytest.approx(teacher)
    assert (out / "analysis").is_dir()
