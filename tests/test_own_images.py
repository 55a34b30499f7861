"""What a user with images of their own types, from the command line to the run folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tailmatch.cli import main
from tailmatch.datasets import load_dataset
from tailmatch.errors import UserError
from tailmatch.guarded_text import read_json
from tailmatch.ssl.api import configure, train

CLASSES = {"ant": 9, "beetle": 4, "great tit": 2}
SMALL = ("--model", "wrn-10-1", "--batch-size", 4, "--steps", 2, "--device", "cpu", "--threads", 1)


def draw_images(folder: Path, count: int, first: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """An uneven folder: 9, 4 and 2 training images, one or two of each for testing."""
    for place, (name, count) in enumerate(CLASSES.items()):
        draw_images(tmp_path / "shots" / "train" / name, count, 100 * place)
        draw_images(tmp_path / "shots" / "test" / name, 2, 100 * place + 50)
    return tmp_path / "shots"


def dry_run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, str]:
    """What --dry-run says, by the first words of its lines."""
    assert main([str(word) for word in (*words, *SMALL, "--dry-run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[:18].strip(): line[18:] for line in lines}


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one sentence with which the command line refuses these words."""
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("task", ["ssl", "longtail"])
def test_a_place_without_its_data_set_is_not_digits(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(capsys, task, "--data-root", "shots", "--steps", 1)
    assert f"--data-root shots is for data sets with files, and digits{'-lt' * (task == 'longtail')} has none" in error
    assert "give --dataset folder too" in error
    assert "give --dataset npz too" in refusal(capsys, task, "--data-root", "shots.npz", "--steps", 1)
    Path("recipe.yaml").write_text("data_root: shots\n")
    assert "give --dataset folder too" in refusal(capsys, task, "--config", "recipe.yaml")
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.yaml"]


def test_nor_is_it_in_python() -> None:
    with pytest.raises(UserError, match="give --dataset folder too"):
        configure(data_root="shots")
    with pytest.raises(UserError, match="give --dataset folder too"):
        load_dataset("digits-lt", "shots")


def test_every_label_of_an_uneven_folder(shots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("ssl", "--dataset", "folder", "--data-root", shots)
    shown = dry_run(capsys, *call, "--labels", "all")
    assert shown["training images"] == "15 labelled"
    assert shown["unlabelled images"] == "15"  # there are no others
    draw_images(shots / "unlabeled", 5, 900)
    assert dry_run(capsys, *call, "--labels", "all")["unlabelled images"] == "5"
    assert dry_run(capsys, *call, "--labels", "all", "--include-labeled", "True")["unlabelled images"] == "20"
    for entry in (shots / "unlabeled").iterdir():
        entry.unlink()
    (shots / "unlabeled").rmdir()
    error = refusal(capsys, *call, "--labels", "all", "--include-labeled", "False", *SMALL)
    assert "All 15 training images are labelled" in error


def test_uneven_draws_and_published_splits(shots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("ssl", "--dataset", "folder", "--data-root", shots)
    assert "7 labels cannot be shared equally by 3 classes; the nearest that can: 6 or 9. Uneven" in refusal(
        capsys, *call, "--labels", 7, *SMALL
    )
    assert "Class 'great tit' has 2 images, but the split asks for 3" in refusal(capsys, *call, "--labels", 9, *SMALL)
    shown = dry_run(capsys, *call, "--labels", 7, "--labels-by", "proportion")
    assert (shown["training images"], shown["per class"]) == ("7 labelled", "ant 4, beetle 2, great tit 1")
    (shots / "fold0.txt").write_text("0\n1\n2\n9\n14\n")
    shown = dry_run(capsys, *call, "--labeled-indices", shots / "fold0.txt")
    assert (shown["per class"], shown["unlabelled images"]) == ("ant 3, beetle 1, great tit 1", "15")
    (shots / "fold0.txt").write_text("0\n15\n")
    assert "has the index 15, and the 15 training images" in refusal(
        capsys, *call, "--labeled-indices", shots / "fold0.txt", *SMALL
    )


def test_a_run_says_and_keeps_which_labels_it_had(shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = train(dataset="folder", data_root="shots", labels="all", model="wrn-10-1", batch_size=4, steps=2)
    folder = Path(result["folder"])
    assert folder.name.startswith("shots_all-fixmatch-ce-s0")
    assert (result["labels"], yaml.safe_load((folder / "config.yaml").read_text())["labels"]) == ("all", "all")
    assert (result["dataset"], result["class_names"]) == ("shots", list(CLASSES))
    assert [len(result["groups"][name]) for name in ("many", "medium", "few")] == [1, 1, 1]

    Path("fold0.txt").write_text("0\n1\n2\n9\n14\n")
    (tmp_path / "recipe.yaml").write_text("{dataset: folder, data_root: shots, labeled_indices: fold0.txt}")
    words = ["ssl", "--config", "recipe.yaml", *map(str, SMALL), "--eval-every", "1", "--out", "run"]
    assert main(words) == 0
    recorded = json.loads(Path("run/result.json").read_text())
    assert recorded["labels"] == "fold0.txt"
    assert yaml.safe_load(Path("run/config.yaml").read_text())["labeled_indices"] == str(tmp_path / "fold0.txt")


def test_a_resumed_run_refuses_another_split(
    shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fold0.txt").write_text("0\n1\n2\n9\n14\n")
    call = ("ssl", "--dataset", "folder", "--data-root", "shots", "--labeled-indices", "fold0.txt", *SMALL)
    assert main([str(word) for word in (*call, "--out", "run")]) == 0
    result = read_json(Path("run/result.json"))
    Path("run/result.json").write_text(json.dumps({**result, "status": "running"}))
    Path("fold0.txt").write_text("0\n1\n3\n9\n14\n")
    assert "was begun on other images or another split" in refusal(capsys, "ssl", "--resume", "run")
    Path("moved.txt").write_text("14\n9\n2\n1\n0\n")
    assert main(["ssl", "--resume", "run", "--labeled-indices", "moved.txt"]) == 0


def test_a_suite_takes_them_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = "{task: ssl, seeds: [0], options: {dataset: folder, data_root: shots}, runs: [{labels: LABELS}]}"
    Path("some.yaml").write_text(suite.replace("LABELS", "[all, 12]"))
    assert main(["suite", "some.yaml", "--dry-run"]) == 0
    assert "--labels all" in capsys.readouterr().out
    Path("some.yaml").write_text(suite.replace("LABELS", "[most]"))
    assert "labels must be a whole number or one of all" in refusal(capsys, "suite", "some.yaml", "--dry-run")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Classes without train/ and test/ above them."""
    for place, (name, count) in enumerate(CLASSES.items()):
        draw_images(tmp_path / "my shots" / name, count, 100 * place)
    return tmp_path / "my shots"


@pytest.mark.parametrize(
    ("task", "options", "name"),
    [
        ("ssl", ("--labels", "all", "--loss", "ikl"), "my-shots_all-fixmatch-ikl-s0"),
        ("longtail", ("--sampler", "class-balanced"), "my-shots-wrn-10-1-cross-entropy-class-balanced-sampling-s0"),
    ],
)
def test_a_flat_folder_from_the_command_line(
    task: str,
    options: tuple[str, ...],
    name: str,
    flat: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    call = (task, "--dataset", "folder", "--data-root", "my shots", *options)
    shown = dry_run(capsys, *call)
    assert (shown["per class"], shown["test images"]) == ("ant 8, beetle 3, great tit 1", "3, held out")
    halved = dry_run(capsys, *call, "--test-fraction", 0.5)
    assert halved["per class"] == "ant 5, beetle 2, great tit 1"
    assert halved["split"] != shown["split"]
    assert "test_fraction must lie between 0 and 1, got 1.0." in refusal(capsys, *call, "--test-fraction", 1)

    assert main([str(word) for word in (*call, *SMALL)]) == 0
    assert " on my shots, seed 0" in capsys.readouterr().out
    (run,) = (tmp_path / "runs" / task).iterdir()
    assert run.name.startswith(name)
    result = json.loads((run / "result.json").read_text())
    assert (result["dataset"], result["class_names"]) == ("my shots", list(CLASSES))
    assert yaml.safe_load((run / "config.yaml").read_text())["test_fraction"] == 0.2
    assert json.loads((run / "environment.json").read_text())["split_fingerprint"] == shown["split"]
    assert main(["evaluate", str(run)]) == 0
    assert "of 3 images" in capsys.readouterr().out
