"""Short semi-supervised runs on one's own images: what is evaluated, and that `evaluate` finds the same."""

import json
import re

import numpy as np
import pytest
import torch

from tailmatch.cli import main
from tailmatch.engine.distributed import World
from tailmatch.engine.profile import Profile
from tailmatch.ssl import Parts, build_task
from tailmatch.ssl.api import configure

CPU = torch.device("cpu")


@pytest.fixture
def own_images(small_dataset, tmp_path):
    """An .npz of one's own, with validation images."""
    train_set, test_set = small_dataset.train, small_dataset.test
    arrays = {"train": train_set, "test": test_set, "val": test_set.subset(torch.arange(0, 40, 2))}
    images = {f"{name}_images": part.images.numpy() for name, part in arrays.items()}
    np.savez(tmp_path / "own.npz", **images, **{f"{name}_labels": p.labels.numpy() for name, p in arrays.items()})
    return tmp_path / "own.npz"


def test_evaluate_finds_what_a_short_run_found(own_images, tmp_path, capsys):
    run = tmp_path / "run"
    words = f"--dataset npz --data-root {own_images} --model wrn-10-1 --labels 40 --batch-size 8 --steps 24 --lr 0.03"
    more = "--unlabeled-ratio 1 --eval-every 8 --device cpu --threads 1"
    assert main(["ssl", *words.split(), *more.split(), "--out", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    said = re.search(r"selected on val +([\d.]+) %.*\(step (\d+)\)", capsys.readouterr().out)
    assert said is not None
    accuracy, val = result["accuracy"], result["val_accuracy"]
    assert said.groups() == (f"{100 * accuracy['selected_on_val']['all']:.1f}", str(val["selected_step"]))
    assert result["evaluated_weights"] == {
        "averaged": True, "ema_decay": 0.99, "ema_warmup": True, "batchnorm_statistics": "recomputed",
    }  # fmt: skip
    config = (run / "config.yaml").read_text()
    assert "\nema_warmup: true\n" in config
    assert "\nbatchnorm_statistics: recomputed\n" in config
    for weights, kept in (("weights", "last"), ("selected", "selected_on_val")):
        capsys.readouterr()
        words = ["evaluate", str(run), "--weights", str(run / f"{weights}.safetensors"), "--device", "cpu"]
        assert main([*words, "--threads", "1"]) == 0
        found = re.search(r"test +([\d.]+) %", capsys.readouterr().out)
        assert found is not None
        assert found[1] == f"{100 * result['accuracy'][kept]['all']:.1f}"


def test_published_evaluations_can_be_asked_for_and_differ(own_images, tmp_path):
    words = f"--dataset npz --data-root {own_images} --model wrn-10-1 --labels 40 --batch-size 8 --steps 24 --lr 0.03"
    words += " --unlabeled-ratio 1 --eval-every 24 --device cpu --threads 1"
    accuracy = {}
    for statistics, warmup in (("recomputed", "True"), ("running", "False")):
        run = tmp_path / statistics
        asked = ["--batchnorm-statistics", statistics, "--ema-warmup", warmup]
        assert main(["ssl", *words.split(), *asked, "--out", str(run)]) == 0
        result = json.loads((run / "result.json").read_text())
        assert result["evaluated_weights"]["batchnorm_statistics"] == statistics
        accuracy[statistics] = result["accuracy"]["last"]["all"]
    assert accuracy["running"] < 0.5 < accuracy["recomputed"]


def sample_of(task):
    return torch.cat(list(task.statistics_sample()))


@pytest.mark.parametrize("algorithm", ["supervised", "fixmatch"])
def test_the_sample_holds_what_the_algorithm_sees_and_stays_the_same(algorithm, small_dataset, small_net):
    config = configure(dataset="npz", algorithm=algorithm, labels=8, batch_size=4, steps=8)
    task = build_task(config, CPU, World(), Parts(dataset=small_dataset, model=small_net()))
    labeled, views = task.batches.labeled, task.batches.views
    sample = sample_of(task)
    shown = views.plain(labeled.images if algorithm == "supervised" else small_dataset.train.images)
    assert {row.numpy().tobytes() for row in sample} == {row.numpy().tobytes() for row in shown}
    task.step(task.model.train(), 0, Profile(False, CPU))
    task.batches.use_labeled(labeled.subset(torch.arange(4)), generation=1)  # as an add-on does
    assert torch.equal(sample_of(task), sample)


def test_a_dry_run_counts_the_images_that_choose(own_images, capsys):
    words = ["ssl", "--dry-run", "--dataset", "npz", "--data-root", str(own_images), "--device", "cpu"]
    assert main([*words, "--model", "wrn-10-1"]) == 0
    assert re.search(r"^val images +20, which choose weights$", capsys.readouterr().out, re.MULTILINE)
    assert main(["ssl", "--dry-run", "--device", "cpu"]) == 0
    assert "val images" not in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_evaluated(capsys):
    assert main(["ssl", "--dry-run", "--device", "cpu", "--steps", "100"]) == 0
    said = "averaged (decay 0.99, rising to it); BatchNorm statistics recomputed for each evaluation"
    assert re.search(r"^evaluated +(.*)$", capsys.readouterr().out, re.MULTILINE)[1] == said
