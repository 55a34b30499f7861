"""Which runs are compared: those of one data set and one protocol, with and without groups of classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from tailmatch.analysis.reading import read_runs
from tailmatch.analysis.sections import Section, split_sections

from .synthetic import long_tail_counts, write_run

EVEN = [4] * 10


def sections_of(folder: Path) -> list[Section]:
    runs, problems = read_runs([folder])
    assert problems == []
    return split_sections(runs)


def change_config(folder: Path, **values: object) -> Path:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **values}))
    return folder


def names(section: Section) -> list[str]:
    return [run.name for run in section.runs]


def write_predictions(file: Path, counts: Sequence[int], **more: object) -> None:
    """What other code may have left, on the same test samples as `write_run`'s."""
    labels = np.repeat(np.arange(10), 30)
    np.savez(file, predictions=labels, labels=labels, train_class_counts=np.asarray(counts), **more)  # type: ignore[arg-type]


def test_data_sets_and_protocols_stand_apart_with_titles_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "a", task="ssl", method="fixmatch", counts=EVEN)
    write_run(tmp_path / "b", task="ssl", method="fixmatch", counts=[40] * 10)
    change_config(tmp_path / "a", labels=40)
    change_config(tmp_path / "b", labels=400)
    write_run(tmp_path / "c", dataset="digits-lt")
    write_run(tmp_path / "d", dataset="digits-lt", loss="ikl")
    write_run(tmp_path / "e", dataset="svhn", tests_per_class=10)
    found = sections_of(tmp_path)
    assert [section.title for section in found] == [
        "digits, 40 labels", "digits, 400 labels", "digits-lt, 1,236 training images", "svhn, 1,236 training images",
    ]  # fmt: skip
    assert [section.slug for section in found][::2] == ["digits-40-labels", "digits-lt-1236-training-images"]
    assert [names(section) for section in found] == [["a"], ["b"], ["c", "d"], ["e"]]


def test_test_samples_in_another_order_cannot_be_paired(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", seed=seed)
    with np.load(tmp_path / "a2" / "predictions.npz") as file:
        arrays = dict(file)
    turned = {name: arrays[name][::-1] for name in ("labels", "logits")}
    np.savez(tmp_path / "a2" / "predictions.npz", **arrays | turned)
    first, second = sections_of(tmp_path)
    assert (names(first), names(second)) == (["a0", "a1"], ["a2"])
    assert second.title == f"{first.title} #2"
    assert second.slug != first.slug


def test_seeds_that_drew_other_counts_are_still_one_method(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", seed=seed, counts=[5 - seed, *[4] * 8, 3 + seed])
    (section,) = sections_of(tmp_path)
    assert len(section.methods) == 1


def test_files_of_other_code_go_with_the_runs_they_fit(tmp_path: Path) -> None:
    counts = long_tail_counts(10, 500, 100)
    write_run(tmp_path / "runs" / "ours", dataset="digits-lt")
    write_run(tmp_path / "runs" / "few", task="ssl", counts=EVEN)
    (tmp_path / "files").mkdir()
    write_predictions(tmp_path / "files" / "theirs.npz", counts.tolist())
    write_predictions(tmp_path / "files" / "named.npz", EVEN, class_names=[f"class {c}" for c in range(10)])
    write_predictions(tmp_path / "files" / "other-names.npz", EVEN, class_names=list("abcdefghij"))
    runs = read_runs([tmp_path / "files", tmp_path / "runs"])[0]
    found = {frozenset(names(section)) for section in split_sections(runs)}
    assert found == {frozenset({"theirs", "ours"}), frozenset({"named", "few"}), frozenset({"other-names"})}


def test_runs_on_every_label_are_the_bound_of_those_on_few(tmp_path: Path) -> None:
    write_run(tmp_path / "few", task="ssl", method="fixmatch", counts=long_tail_counts(10, 500, 100))
    write_run(tmp_path / "all", task="ssl", method="fully-supervised", counts=[600] * 10)
    change_config(tmp_path / "few", labels=40)
    change_config(tmp_path / "all", labels=None)
    (section,) = sections_of(tmp_path)
    assert {run.groups for run in section.runs} == {read_runs([tmp_path / "few"])[0][0].groups}
    assert "few" in section.runs[0].metrics["top1"]
    assert len(section.methods) == 2
    assert "1,236 labels" in section.title
