"""Which runs are one method, and what methods are called."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tailmatch.analysis.methods import configuration_differences, default_reference, group_runs, short_label
from tailmatch.analysis.reading import read_runs
from tailmatch.analysis.runs import Method

from .synthetic import write_run


def methods_in(folder: Path) -> list[Method]:
    runs, problems = read_runs([folder])
    assert problems == []
    return group_runs(runs)


def change_config(folder: Path, **values: object) -> None:
    config = {**yaml.safe_load((folder / "config.yaml").read_text()), **values}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("algorithm", "loss", "add_ons", "label"),
    [
        ("fixmatch", "ikl", (), "fixmatch + ikl"),
        ("fixmatch", "ce", ("abc",), "fixmatch + abc + ce"),
        ("supervised", "ce", (), "supervised"),
        ("balanced-softmax", "none", (), "balanced-softmax"),
        ("cross-entropy", "none", (), "cross-entropy"),
        ("cross-entropy", "kl", (), "kl"),
        ("balanced-softmax", "kl", (), "balanced-softmax + kl"),
        ("ce", "ce", (), "ce"),
        (None, None, (), "run"),
    ],
)
def test_labels(algorithm: str | None, loss: str | None, add_ons: tuple[str, ...], label: str) -> None:
    assert short_label(algorithm, loss, add_ons) == label


def test_runs_that_differ_in_the_seed_and_the_machine_are_one_method(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        folder = write_run(tmp_path / f"run{seed}", seed=seed)
        change_config(
            folder, device=f"cuda:{seed}", threads=seed, teacher_checkpoint=f"runs/teacher-s{seed}-20250101-00000{seed}"
        )
    (method,) = methods_in(tmp_path)
    assert method.seeds == (0, 1, 2)
    assert len(method.values("top1", "few")) == 3
    assert method.class_accuracy.shape == (3, 10)


def test_another_teacher_is_another_method(tmp_path: Path) -> None:
    for name in ("wide", "deep"):
        change_config(write_run(tmp_path / name), teacher_checkpoint=f"runs/{name}-s0")
    assert sorted(method.name for method in methods_in(tmp_path)) == [
        "ce (teacher_checkpoint=runs/deep-s0)",
        "ce (teacher_checkpoint=runs/wide-s0)",
    ]


def test_equal_labels_are_told_apart_by_the_options_that_differ(tmp_path: Path) -> None:
    for number, (lr, beta) in enumerate([(0.03, 0.1), (0.03, 1.0), (0.1, 1.0)]):
        folder = write_run(tmp_path / f"run{number}", method="fixmatch", task="ssl", loss="ikl")
        change_config(folder, lr=lr, loss={"name": "ikl", "beta": beta}, model="wrn_16_2")
    write_run(tmp_path / "other", method="fixmatch", task="ssl", loss="kl")
    assert [method.name for method in methods_in(tmp_path)] == [
        "fixmatch + kl",
        "fixmatch + ikl (beta=0.1, lr=0.03)",
        "fixmatch + ikl (beta=1, lr=0.03)",
        "fixmatch + ikl (beta=1, lr=0.1)",
    ]


def test_parts_of_ones_own_make_another_method(tmp_path: Path) -> None:
    for name, parts in (("plain", {}), ("every", {"acceptance": "theirs.Every"}), ("loss", {"loss": "theirs.Ours"})):
        folder = write_run(tmp_path / name, method="fixmatch", task="ssl", loss="kl")
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps({**result, "own_parts": parts}))
    assert sorted(method.name for method in methods_in(tmp_path)) == [
        "fixmatch + Ours",
        "fixmatch + kl",
        "fixmatch + kl (acceptance=theirs.Every)",
    ]


def test_files_of_one_name_are_numbered_and_files_of_one_method_joined(tmp_path: Path) -> None:
    labels, counts = np.arange(4) % 2, np.array([200, 3])
    for place, guess in (("x", 0), ("y", 1)):
        (tmp_path / place).mkdir()
        for name in ("a", "b_seed0", "b_seed1"):
            arrays = {"predictions": np.full(4, guess), "labels": labels, "train_class_counts": counts}
            np.savez(tmp_path / place / f"{name}.npz", **arrays)
    runs, problems = read_runs([tmp_path / "x", tmp_path / "y"])
    assert problems == []
    assert [(method.name, method.seeds) for method in group_runs(runs)] == [
        ("a", (None,)),
        ("b", (0, 1)),
        ("a #2", (None,)),
        ("b #2", (0, 1)),
    ]


def test_the_reference_is_the_plain_one(tmp_path: Path) -> None:
    for method, loss in (("cross-entropy", "ikl"), ("cross-entropy", "none"), ("ldam", "none")):
        write_run(tmp_path / f"{method}-{loss}", method=method, loss=loss)
    methods = methods_in(tmp_path)
    assert default_reference(methods).name == "cross-entropy"
    write_run(tmp_path / "kl", method="cross-entropy", loss="kl")
    assert default_reference(methods_in(tmp_path)).name == "kl"
    assert default_reference([method for method in methods if method.name == "ldam"]).name == "ldam"
    for method in ("cross-entropy", "ikl", "kd"):  # of `distill`, which has methods alone
        write_run(tmp_path / "distill" / method, method=method, loss="none")
    assert default_reference(methods_in(tmp_path / "distill")).name == "kd"


def test_configuration_differences(tmp_path: Path) -> None:
    write_run(tmp_path / "a", method="cross-entropy", loss="kl")
    write_run(tmp_path / "b", method="cross-entropy", loss="ikl", seed=4)
    differing, shared = configuration_differences(methods_in(tmp_path))
    assert differing == {"loss": ["kl", "ikl"], "loss.beta": ["", "0.1"]}
    assert shared["lr"] == "0.03"
    assert "seed" not in shared


def test_another_network_than_most_is_said_in_the_name(tmp_path: Path) -> None:
    for loss in ("kl", "ikl"):
        write_run(tmp_path / loss, method="cross-entropy", loss=loss)
    change_config(write_run(tmp_path / "teacher", method="cross-entropy", loss="none"), model="wrn-40-2")
    assert [method.name for method in methods_in(tmp_path)] == ["ikl", "kl", "cross-entropy (model=wrn-40-2)"]
    change_config(tmp_path / "ikl", model="wrn-40-2")
    change_config(tmp_path / "kl", model="other")
    assert [method.name for method in methods_in(tmp_path)][1] == "kl (model=other)"
