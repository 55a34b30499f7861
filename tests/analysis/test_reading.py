"""Finding and reading runs: what is there is read, what is broken is named, and the rest goes on."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from tailmatch.analysis.groups import Groups
from tailmatch.analysis.reading import find_runs, read_runs
from tailmatch.analysis.run_folder import Grouping
from tailmatch.analysis.runs import Run
from tailmatch.engine.files import write_sealed_json

from .synthetic import group_accuracy, write_run


def predictions(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "predictions.npz") as file:
        return dict(file)


def change_predictions(folder: Path, **arrays: np.ndarray | None) -> None:
    kept = {**predictions(folder), **arrays}
    np.savez(folder / "predictions.npz", **{name: array for name, array in kept.items() if array is not None})


def change_result(folder: Path, **values: object) -> None:
    result = {**json.loads((folder / "result.json").read_text()), **values}
    (folder / "result.json").write_text(json.dumps(result))


def read_one(path: Path) -> Run:
    runs, problems = read_runs([path])
    assert problems == []
    return runs[0]


@pytest.mark.parametrize("half", [False, True])
def test_a_run_is_read_with_everything_in_it(tmp_path: Path, half: bool) -> None:
    folder = write_run(
        tmp_path / "a", loss="ikl", method="cross-entropy", seed=3, teacher=True, class_means=True, half=half
    )
    arrays = predictions(folder)
    run = read_one(folder)
    assert (run.name, run.label, run.task, run.dataset, run.seed) == ("a", "ikl", "longtail", "digits", 3)
    assert (run.algorithm, run.loss) == ("cross-entropy", "ikl")
    np.testing.assert_array_equal(run.predictions, arrays["logits"].argmax(1))
    np.testing.assert_array_equal(run.teacher_predictions, arrays["teacher_logits"].argmax(1))
    np.testing.assert_array_equal(run.logits(), arrays["logits"])
    np.testing.assert_array_equal(run.logits("teacher_logits"), arrays["teacher_logits"])
    expected = group_accuracy(arrays["logits"], arrays["labels"], arrays["train_class_counts"])
    assert run.metrics["top1"] == pytest.approx(expected)
    assert run.metrics_frame["step"].tolist()[-1] == 2000
    assert run.class_means().shape == (10, 10)
    assert run.head()[0].shape == (10, 16)
    assert run.untested_classes == []


def test_what_a_run_does_not_have_is_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", weights=False)
    (folder / "metrics.jsonl").unlink()
    run = read_one(folder)
    assert run.teacher_predictions is run.class_means() is run.head() is run.logits("teacher_logits") is None
    assert run.metrics_frame.empty


@pytest.mark.parametrize(
    "options", [{"head": "cosine"}, {"stage2": "lws"}, {"post_hoc_tau": 1.0}, {"add_on": ["logit-adjust-posthoc"]}]
)
def test_only_a_plain_linear_classifier_explains_the_logits(tmp_path: Path, options: dict) -> None:
    folder = write_run(tmp_path / "a")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **options}))
    assert read_one(folder).head() is None


def test_the_second_classifier_of_abc_is_the_evaluated_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    second = np.ones((10, 16), np.float32)
    heads = {"model.fc.weight": -second, "balanced.weight": second, "balanced.bias": second[:, 0]}
    save_file(heads, folder / "weights.safetensors")
    weight, bias = read_one(folder).head()
    assert (weight > 0).all()
    assert (bias > 0).all()


@pytest.mark.parametrize("values", [{"seed": np.arange(2)}, {"method": np.array(["a", "b"])}, {"seed": "one"}])
def test_a_name_or_seed_that_is_none_is_named_and_the_others_go_on(tmp_path: Path, values: dict) -> None:
    arrays = {"predictions": np.arange(4) % 2, "labels": np.arange(4) % 2, "train_class_counts": np.array([200, 3])}
    np.savez(tmp_path / "good.npz", **arrays)
    np.savez(tmp_path / "bad.npz", **arrays, **values)
    runs, problems = read_runs([tmp_path])
    assert [run.name for run in runs] == ["good"]
    (problem,) = problems
    assert problem.path == tmp_path / "bad.npz"
    assert f"{next(iter(values))} must be one " in problem.reason


def test_the_selected_weights_have_predictions_of_their_own(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", teacher=True, class_means=True)
    arrays = predictions(folder)
    np.savez(folder / "predictions_selected.npz", **{**arrays, "logits": arrays["logits"][:, ::-1]})  # type: ignore[arg-type]
    save_file({"head.weight": np.ones((10, 16), np.float32)}, folder / "selected.safetensors")
    write_run(tmp_path / "without", seed=1)
    np.savez(tmp_path / "theirs.npz", **arrays)  # type: ignore[arg-type]
    (run,), problems = read_runs([tmp_path / "a", tmp_path / "without", tmp_path / "theirs.npz"], weights="selected")
    np.testing.assert_array_equal(run.predictions, arrays["logits"][:, ::-1].argmax(1))
    np.testing.assert_array_equal(run.logits(), arrays["logits"][:, ::-1])
    np.testing.assert_array_equal(run.teacher_predictions, arrays["teacher_logits"].argmax(1))
    assert run.head()[0].sum() == 160
    assert run.class_means() is None  # those that were kept are of the last step
    assert [problem.path for problem in problems] == [tmp_path / "without", tmp_path / "theirs.npz"]
    assert "has no predictions of selected weights, which need validation images" in problems[0].reason


def test_curves_end_at_a_line_cut_off(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2100, "train/lo')
    assert len(read_one(folder).metrics_frame) == 20


def test_a_damaged_record_of_the_tuning_is_named_and_the_runs_are_read_without_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", loss="ikl")
    write_sealed_json(tmp_path / "tuning.json", {"seeds": [8], "methods": {}})
    assert read_runs([tmp_path])[1] == []
    path = tmp_path / "tuning.json"
    path.write_text(path.read_text().replace("8", "9", 1))
    runs, (problem,) = read_runs([tmp_path])
    assert len(runs) == 1
    assert problem.path == path
    assert "is damaged, or was changed" in problem.reason


@pytest.mark.parametrize("change", [lambda text: text.replace("0.", "1.", 1), lambda text: text[:-3]])
def test_damaged_curves_are_named(change: Callable[[str], str], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    file = folder / "metrics.jsonl"
    change_result(folder, metrics_sha256=sha256(file.read_bytes()).hexdigest())
    assert len(read_one(folder).metrics_frame) == 20
    file.write_text(change(file.read_text()))
    (problem,) = read_runs([folder])[1]
    assert problem.path == file
    assert "do not have the checksum in result.json" in problem.reason
    file.unlink()
    assert read_one(folder).metrics_frame.empty


def test_a_damaged_checkpoint_has_no_class_means_and_those_of_an_earlier_step_are_others(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", loss="ikl", class_means=True)
    assert read_one(folder).class_means() is not None
    (folder / "checkpoints" / "step_10000.safetensors").write_bytes(b"not whole")
    assert read_one(folder).class_means() is None


def test_groups_are_the_recorded_ones_unless_asked_otherwise(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    change_result(folder, groups={"rule": "mine", "many": [9], "medium": [], "few": [0]})
    assert read_one(folder).groups == Groups("mine", (9,), (), (0,))
    (run,), _ = read_runs([folder], Grouping(rule="thirds"))
    assert run.groups.rule == "thirds"
    (run,), _ = read_runs([folder], Grouping(lists={"many": ["class 0", 1]}))
    assert run.groups == Groups("given", (0, 1))


def test_runs_are_found_at_any_depth_and_only_once(tmp_path: Path) -> None:
    places = [write_run(tmp_path / place) for place in ("one", "suite/two", "suite/deep/three")]
    (tmp_path / ".hidden").mkdir()
    shutil.copytree(places[0], tmp_path / ".hidden" / "four")
    shutil.copytree(places[0], tmp_path / "one" / "checkpoints" / "five")
    found, problems = find_runs([tmp_path, tmp_path / "one", places[1] / "predictions.npz"])
    assert sorted(found) == sorted(places)
    assert problems == []


def test_predictions_of_other_code(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 50)
    counts = np.array([300, 50, 5])
    np.savez(
        tmp_path / "ours_seed1.npz", logits=generator.normal(size=(50, 3)), labels=labels, train_class_counts=counts
    )
    guess = generator.integers(0, 3, 50)
    np.savez(tmp_path / "theirs.npz", predictions=guess, labels=labels, train_class_counts=counts, method="NCL", seed=7)
    (tmp_path / "deep_seed2").mkdir()
    np.savez(tmp_path / "deep_seed2" / "predictions.npz", predictions=guess, labels=labels, train_class_counts=counts)
    runs, problems = read_runs([tmp_path / "ours_seed1.npz", tmp_path / "theirs.npz", tmp_path / "deep_seed2"])
    assert problems == []
    assert [(run.label, run.seed) for run in runs] == [("ours", 1), ("NCL", 7), ("deep", 2)]
    assert runs[0].groups == Groups("default", (0,), (1,), (2,))
    assert runs[1].confidence is None
    assert "ece" not in runs[1].metrics
    assert runs[0].class_names == ("0", "1", "2")


def nan_logits(folder: Path) -> None:
    logits = predictions(folder)["logits"]
    logits[7, 2] = np.nan
    change_predictions(folder, logits=logits)


def objects(folder: Path) -> None:
    change_predictions(folder, class_names=np.array([{}] * 10, dtype=object))


def cut_off(folder: Path) -> None:
    file = folder / "predictions.npz"
    file.write_bytes(file.read_bytes()[:-200])


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut off": (cut_off, "predictions.npz", "not a whole npz file"),
    "no predictions": (
        lambda run: (run / "predictions.npz").unlink(),
        "predictions.npz",
        "cannot be opened (No such file",
    ),
    "nan": (nan_logits, "predictions.npz", "logits: sample 7 has logits that are not finite"),
    "objects": (objects, "predictions.npz", "class_names holds Python objects"),
    "fewer labels": (
        lambda run: change_predictions(run, labels=predictions(run)["labels"][:-1]),
        "predictions.npz",
        "logits has 300 rows for 299 labels",
    ),
    "fewer columns": (
        lambda run: change_predictions(run, logits=predictions(run)["logits"][:, :-1]),
        "predictions.npz",
        "logits has 9 columns for 10 classes in train_class_counts",
    ),
    "label out of range": (
        lambda run: change_predictions(run, labels=predictions(run)["labels"] + 1),
        "predictions.npz",
        "labels contain class 10, but train_class_counts knows the classes 0 to 9",
    ),
    "words as labels": (
        lambda run: change_predictions(run, labels=np.array(["a"] * 300)),
        "predictions.npz",
        "labels must be one list of integers, got <U1 of shape (300,)",
    ),
    "no counts": (
        lambda run: change_predictions(run, train_class_counts=None),
        "predictions.npz",
        "has no array 'train_class_counts', only class_names, labels, logits",
    ),
    "no logits": (
        lambda run: change_predictions(run, logits=None),
        "predictions.npz",
        "has neither logits nor predictions",
    ),
    "names": (
        lambda run: change_predictions(run, class_names=np.array(["a"])),
        "predictions.npz",
        "has 1 class_names for 10 classes",
    ),
    "teacher": (
        lambda run: change_predictions(run, teacher_logits=np.zeros((3, 10))),
        "predictions.npz",
        "teacher_logits has 3 rows for 300 labels",
    ),
    "empty": (
        lambda run: change_predictions(run, labels=np.zeros(0, np.int64), logits=np.zeros((0, 10))),
        "predictions.npz",
        "labels is empty",
    ),
    "schema": (lambda run: change_result(run, schema=2), "result.json", "has schema 2, this version reads 1"),
    "not JSON": (lambda run: (run / "result.json").write_text("{"), "result.json", "is not JSON: "),
    "other types": (lambda run: change_result(run, method=["a"]), "result.json", "method must be a word, got ['a']"),
    "a list": (
        lambda run: (run / "result.json").write_text("[1]"),
        "result.json",
        "must hold names and values, got list",
    ),
    "not YAML": (lambda run: (run / "config.yaml").write_text("a: [1"), "config.yaml", "is not YAML: "),
    "code in YAML": (
        lambda run: (run / "config.yaml").write_text("a: !!python/name:os.system"),
        "config.yaml",
        "is not YAML: could not determine a constructor",
    ),
    "no result": (lambda run: (run / "result.json").unlink(), "result.json", "cut off before its first evaluation"),
    "running": (lambda run: change_result(run, status="running"), "result.json", "its status is running"),
    "failed": (
        lambda run: change_result(run, status="failed", error="loss nan at step 5"),
        "result.json",
        "its status is failed (loss nan at step 5)",
    ),
    "groups": (
        lambda run: change_result(run, groups={"rule": "x", "many": [10]}),
        "predictions.npz",
        "no groups of classes: Class 10 is in a group",
    ),
    "groups of words": (
        lambda run: change_result(run, groups={"rule": "x", "many": "abc"}),
        "result.json",
        "groups must be names and values",
    ),
    "brackets": (
        lambda run: (run / "config.yaml").write_text("[" * 100_000),
        "config.yaml",
        "is nested more than 60 levels deep",
    ),
    "an option of options": (
        lambda run: (run / "config.yaml").write_text("lr: {a: {b: [[1]]}}"),
        "config.yaml",
        "lr has a value that no option has",
    ),
    "no word as a name": (
        lambda run: (run / "config.yaml").write_text("1: 2"),
        "config.yaml",
        "1 has a value that no option has",
    ),
    **{
        f"{name} {number}": (
            lambda run, name=name, value=value: change_result(run, **{name: value}),
            "result.json",
            f"{name} must be ",
        )
        for name, values in {
            "accuracy": ([1], {"last": 3}, {"last": {"all": "high"}}, {"last": {"all": 7}}, {"last": [0.5]}),
            "val_accuracy": ("x", {"last": {"all": []}}, {"selected_step": "x"}),
            "groups": ([], {"many": ["a"]}, {"rule": 3}),
            "class_names": ("abc", [1]),
            "seed": ("0", 1.5, True, 1 << 80),
            "steps": ("x", 2.5),
            "seconds": ("x", [1]),
            "teacher": ("x", {"name": 3}, {"accuracy": {"all": "x"}}),
            "own_parts": ([], {"loss": 3}),
        }.items()
        for number, value in enumerate(values)
    },
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_run_is_named_and_the_others_go_on(tmp_path: Path, name: str) -> None:
    damage, file, reason = BROKEN[name]
    write_run(tmp_path / "good")
    damage(write_run(tmp_path / "bad", seed=1))
    runs, problems = read_runs([tmp_path])
    assert [run.name for run in runs] == ["good"]
    (problem,) = problems
    assert problem.path == tmp_path / "bad" / file
    assert reason in problem.reason
    assert str(problem) == f"{problem.path}: {problem.reason}"


def test_paths_without_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    _, problems = find_runs([tmp_path / "empty", tmp_path / "notes.txt", tmp_path / "nowhere"])
    assert [problem.reason for problem in problems] == [
        "no run folder and no npz file in or below it",
        "neither a folder nor an npz file",
        "no such file or folder",
    ]


def test_an_earlier_analysis_beside_the_runs_is_not_named_as_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "report.html").write_text("x")
    assert find_runs([run, tmp_path / "analysis"]) == ([run], [])


def test_the_same_seed_on_other_data_is_another_run(tmp_path: Path) -> None:
    """Two folders of images have one name as a data set, and may be all that differs."""
    for name, tests in (("a", 10), ("b", 20)):
        write_run(tmp_path / name, dataset="folder", tests_per_class=tests)
    runs, problems = read_runs([tmp_path])
    assert [run.name for run in runs] == ["a", "b"]
    assert problems == []


def test_the_same_seed_twice_is_not_two_seeds(tmp_path: Path) -> None:
    old, new = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    environment = json.loads((new / "environment.json").read_text())
    (old / "environment.json").write_text(json.dumps({**environment, "started": "2025-01-02T00:00:00"}))
    runs, problems = read_runs([tmp_path])
    assert [run.name for run in runs] == ["a"]
    assert f"same configuration and seed as {tmp_path / 'a'}" in problems[0].reason
