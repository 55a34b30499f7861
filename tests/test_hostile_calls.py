"""Calls that nobody should make: refused at once, in one sentence, with what to do; nothing written over."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tailmatch.cli import main
from tailmatch.datasets import load_dataset
from tailmatch.datasets.files.file_set import FileSet, images_below
from tailmatch.datasets.files.loader import ImageLoader
from tailmatch.datasets.files.record import ListRecord, Record
from tailmatch.datasets.files.views import EvalView
from tailmatch.datasets.prepare.verify import fault
from tailmatch.engine.files import read_plain, write_text
from tailmatch.engine.sampling import EvalPlan
from tailmatch.errors import UserError

Capture = pytest.CaptureFixture[str]
TINY = ["--threads", "1", "--device", "cpu", "--steps", "2", "--batch-size", "4"]


def refused(capsys: Capture, *words: object) -> str:
    begun = time.perf_counter()
    assert main([str(word) for word in words]) == 2
    assert time.perf_counter() - begun < 20
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith((".\n", "?\n"))
    assert said.count("\n") == 1
    return said.removeprefix("error: ").rstrip("\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["ssl", *TINY, "--out", str(out)]) == 0
    return out


# -- words -------------------------------------------------------------------------------------------------------------

WORDS = {
    "ssl --lr fast": "--lr must be a number, got 'fast'.",
    "ssl --lr=fast --sede 3": "--lr must be a number, got 'fast'.",
    "ssl --sede 3": "Unknown option --sede of `",
    "ssl --steps 3.5": "--steps must be a whole number or null, got '3.5'.",
    "ssl --seed": "--seed needs a value.",
    "ssl --schedule cosin": "--schedule must be one of cosine-7-16, cosine, multistep, constant, got 'cosin'. Did",
    "ssl --channels-last=maybe": "--channels-last takes no value, got 'maybe'.",
    "ssl --milestones a b": "--milestones must be a number, got 'a'.",
    "ssl stray": "Unrecognized options: stray; see `",
    "longtail --drw x": "--drw must be a number or null, got 'x'.",
    "runs --jsn": "Unknown option --jsn of `",
    "data": "Expected one of {prepare, check, list}; see `",
    "data --action imagenet-lt": "Unrecognized options: --action, imagenet-lt; see `",
    "predict": "Missing from ",
    "export run": "Missing from ",
    "data prepare imagenet --root . --timeout inf": "timeout must be above 0 and at most 86,400 seconds, got inf.",
    "data prepare imagenet --root . --lists-url http://[": "http://[/imagenet_train.txt cannot be fetched: Invalid",
    "ssl --milestones 0.5": "--milestones is for --schedule multistep, and the schedule is cosine-7-16; leave out",
    "ssl --schedule cosine --gamma 0.5": "--gamma is for --schedule multistep, and the schedule is cosine; leave out",
    "ssl --model wrn-10-99999": "Model 'wrn-10-99999' would have about 967,660,646,496,768 weights, and",
    "ssl --batch-size 1000000000": "A step of 8,000,000,000 images is too large: there are 1,392 training images",
    "ssl --unlabeled-ratio 1000000000": "A step of ",
    "longtail --batch-size 1000000000 --epochs 1": "A step of 1,000,000,000 images is too large: there are ",
}


@pytest.mark.parametrize(("words", "sentence"), WORDS.items(), ids=list(WORDS))
def test_words_are_refused_in_one_sentence(words: str, sentence: str, tmp_path: Path, capsys: Capture) -> None:
    out = ["--out", tmp_path / "x"] if words.startswith(("ssl", "longtail")) else []
    assert refused(capsys, *words.split(), *out).startswith(sentence)
    assert not (tmp_path / "x").exists()


def test_a_near_name_is_named(capsys: Capture) -> None:
    assert "Did you mean '--seed'?" in refused(capsys, "ssl", "--sede", "3")


def test_milestones_with_the_schedule_that_has_them_are_taken(tmp_path: Path) -> None:
    words = ["ssl", *TINY, "--schedule", "multistep", "--milestones", "0.5", "--gamma", "0.5", "--dry-run"]
    assert main(words) == 0


# -- outputs -----------------------------------------------------------------------------------------------------------


def test_evaluate_writes_over_its_own_predictions_alone(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    base = ["evaluate", finished, "--threads", "1", "--device", "cpu", "--out"]
    for name in ("weights.safetensors", "predictions.npz"):
        before = (finished / name).read_bytes()
        assert "is what a run has left in its folder" in refused(capsys, *base, finished / name)
        assert (finished / name).read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    assert "exists and holds no predictions" in refused(capsys, *base, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for _ in range(2):
        assert main([str(word) for word in [*base, tmp_path / "new" / "p.npz"]]) == 0
    assert "logits" in np.load(tmp_path / "new" / "p.npz", allow_pickle=False)


@pytest.mark.parametrize("kind", ["link", "pipe", "device", "folder", "loop"])
def test_nothing_is_put_in_place_of_what_is_no_file(kind: str, finished: Path, tmp_path: Path, capsys: Capture) -> None:
    place = tmp_path / "place"
    (tmp_path / "target").write_text("mine")
    if kind == "link":
        place.symlink_to(tmp_path / "target")
    elif kind == "loop":
        place.symlink_to(place)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place = Path(os.devnull)
    before = place.lstat().st_mode, place.lstat().st_ino
    with pytest.raises(UserError, match="a file is to be written there; choose another place"):
        write_text(place, "something else")
    image = next(finished.glob("views.png"))
    for words in (
        ["evaluate", finished, "--out", place],
        ["predict", finished, image, "--threads", "1", "--out", place],
        ["compare", "ssl", "--loss", "ce", "ikl", "--dry-run", "--save", place, "--", "--steps", "2"],
    ):
        assert str(place) in refused(capsys, *words)
    assert (place.lstat().st_mode, place.lstat().st_ino) == before
    assert (tmp_path / "target").read_text() == "mine"


@pytest.mark.parametrize("out", ["/", "loop", "loop/x"])
def test_no_run_begins_where_none_can(out: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(capsys, "ssl", *TINY, "--out", tmp_path / out if out != "/" else out)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_pipe_is_no_image_and_a_link_to_a_folder_above_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    os.mkfifo(tmp_path / "a" / "f.png")
    (tmp_path / "a" / "b" / "g.png").write_bytes(b"")
    (tmp_path / "a" / "b" / "again").symlink_to(tmp_path / "a")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a" / "b")
    assert images_below(tmp_path) == ["a/b/g.png", "elsewhere/g.png"]


def test_a_folder_with_a_pipe_among_its_images_is_read_without_it(tmp_path: Path) -> None:
    from PIL import Image

    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(5):
            Image.new("L", (8, 8), number).save(tmp_path / label / f"{number}.png")
        os.mkfifo(tmp_path / label / "f.png")
    dataset = load_dataset("folder", tmp_path)
    assert len(dataset.train) + len(dataset.test) == 10


def test_a_pipe_where_a_listed_image_or_a_list_was_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    begun = time.perf_counter()
    with pytest.raises(OSError, match="it is no plain file"):
        read_plain(tmp_path / "pipe")
    files = FileSet.of(tmp_path, ["pipe"], [0])
    with (
        ImageLoader(files, EvalView(), EvalPlan(images=1, batch_size=1), 1) as loader,
        pytest.raises(UserError, match=r"The image .*pipe cannot be read \(it is no plain file\)"),
    ):
        loader.batch(0)
    assert fault(str(tmp_path), "pipe", pixels=True) == "it is no plain file"
    row = ListRecord(file="pipe", sha256="0" * 64, images=1)
    record = Record(dataset="imagenet-lt", root=".", lists={"train": row}, places={}, class_names=("a",))
    with pytest.raises(UserError, match=r"pipe cannot be read \(it is no plain file\); run `data prepare"):
        record.files(tmp_path, tmp_path, "train")
    assert time.perf_counter() - begun < 20


LISTS = "[{}]".format(", ".join(f"0.{number}1" for number in range(1, 60)))
SUITES = {
    "59 to the power of 4": (
        f"task: ssl\nruns:\n  - {{lr: {LISTS}, momentum: {LISTS}, gamma: {LISTS}, weight_decay: {LISTS}}}",
        r"these lists come to 12,117,361 combinations, and 10,000 are the most",
    ),
    "excluded as often": (
        f"task: ssl\nruns: [{{lr: 0.1}}]\nexclude: [{{lr: {LISTS}, momentum: {LISTS}, gamma: {LISTS}}}]",
        "these lists come to 205,379 combinations",
    ),
    "all excluded": ("task: ssl\nruns: [{lr: 0.1}]\nexclude: [{lr: 0.1}]", "`exclude:` leaves none of the runs"),
    "a report elsewhere": ("task: ssl\nruns: [{lr: 0.1, report: ../../x}]", "report must be a plain name"),
    "a report above": ("task: ssl\nruns: [{lr: 0.1, report: ..}]", "report must be a plain name"),
    "brackets": ("[" * 100_000, "is nested more than 60 levels deep"),
    "a list as a name": ("task: ssl\nruns:\n  - ? [lr]\n    : 0.1", "a name in a block of runs must be a word"),
}


@pytest.mark.parametrize(("text", "sentence"), SUITES.values(), ids=list(SUITES))
def test_hostile_suites_are_refused(text: str, sentence: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert sentence in refused(capsys, "suite", tmp_path / "mine.yaml", "--out", tmp_path / "out", "--dry-run")


@pytest.fixture
def one_pixel(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    images = {f"{part}_images": draw.integers(0, 256, (24, 1, 1), dtype=np.uint8) for part in ("train", "test")}
    np.savez(tmp_path / "one.npz", **images, **{f"{part}_labels": np.arange(24) % 4 for part in ("train", "test")})
    return tmp_path / "one.npz"


def test_images_of_one_pixel_are_trained_on_or_refused(one_pixel: Path, tmp_path: Path, capsys: Capture) -> None:
    base = ["ssl", *TINY, "--dataset", "npz", "--data-root", one_pixel, "--labels", "8", "--model"]
    assert main([str(word) for word in [*base, "wrn-10-1", "--out", tmp_path / "run"]]) == 0
    capsys.readouterr()
    for model in ("cnn-digits", "resnet18", "resnet20"):
        words = [*base, model, "--out", tmp_path / model]
        if main([str(word) for word in words]):
            assert "error: Images of 1 x 1 pixels are too small for " in capsys.readouterr().err
    words = [
        "longtail",
        *TINY,
        "--dataset",
        "npz",
        "--data-root",
        one_pixel,
        "--model",
        "wrn-10-1",
        "--batch-size",
        "1",
    ]
    words[words.index("--steps") : words.index("--steps") + 2] = ["--epochs", "1"]
    assert "BatchNorm has one value of a channel to go by" in refused(capsys, *words, "--out", tmp_path / "small")


NOT_UTF8 = "x\udcff"


def test_a_name_that_is_no_text_is_refused_before_it_is_written_anywhere(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    for words in (
        ["ssl", *TINY, "--out"],
        ["longtail", "--out"],
        ["analyze"],
        ["evaluate"],
        ["suite", "digits_ssl", "--out"],
    ):
        assert "x\\xff is no text in UTF-8" in refused(capsys, *words, f"{tmp_path}/{NOT_UTF8}")
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / NOT_UTF8).symlink_to(finished)
    assert main(["analyze", str(tmp_path / "runs")]) == 2
    assert "its name is no text in UTF-8; rename it" in capsys.readouterr().err
    (tmp_path / "runs" / "good").symlink_to(finished)
    assert main(["analyze", str(tmp_path / "runs"), "--out", str(tmp_path / "report")]) == 0
    assert main(["runs", str(tmp_path / "runs")]) == 0


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in ("a", NOT_UTF8):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"The class x\\xff in .* has a name that is no text in UTF-8; rename"):
        load_dataset("folder", tmp_path)
