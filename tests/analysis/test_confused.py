"""The table of the most confused pairs: the right numbers, and the pictures that runs have kept."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailmatch.analysis.confused import MOST_PAIRS, as_address, confused_table, kept_examples, mistakes_of
from tailmatch.analysis.reading import read_runs
from tailmatch.analysis.runs import Method
from tailmatch.analysis.sections import split_sections

from .synthetic import write_run

LABELS = np.repeat(np.arange(3), 4)


def write_file(path: Path, predictions: list[int]) -> None:
    names = ["cat", "dog", "cow"]
    np.savez(path, predictions=predictions, labels=LABELS, train_class_counts=[4, 4, 4], class_names=names)  # type: ignore[arg-type]


def methods_in(folder: Path) -> list[Method]:
    (section,) = split_sections(read_runs([folder])[0])
    return list(section.methods)


@pytest.fixture
def methods(tmp_path: Path) -> list[Method]:
    """A method of two seeds and one of one; classes of four test samples each."""
    write_file(tmp_path / "a_seed0.npz", [0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 0])
    write_file(tmp_path / "a_seed1.npz", [0, 0, 1, 2, 1, 1, 1, 1, 2, 2, 2, 2])
    write_file(tmp_path / "b.npz", [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    return methods_in(tmp_path)


def test_mistakes_are_counted_per_method_and_class(methods: list[Method]) -> None:
    found = mistakes_of(methods[0])
    assert found == {(0, 1): (2.0, 0.5), (0, 2): (0.5, 0.125), (2, 0): (0.5, 0.125)}
    assert mistakes_of(methods[1]) == {(2, 1): (4.0, 1.0)}


def test_the_table_begins_with_the_most_frequent(methods: list[Method]) -> None:
    table = confused_table(methods)
    assert table is not None
    assert [column.title for column in table.columns] == ["True class → taken for", "a", "b"]
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["cow → dog", "0", "4 (100.0 %)"],
        ["cat → dog", "2 (50.0 %)", "0"],
        ["cat → cow", "0.5 (12.5 %)", "0"],
        ["cow → cat", "0.5 (12.5 %)", "0"],
    ]
    assert [row.cells[1].sort for row in table.rows] == ["0", "2.0", "0.5", "0.5"]


def test_without_mistakes_there_is_no_table(tmp_path: Path) -> None:
    write_file(tmp_path / "a.npz", LABELS.tolist())
    assert confused_table(methods_in(tmp_path)) is None


def keep(folder: Path, **other: object) -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((3, 8, 8, 1), np.uint8)
    arrays = {"true": [0, 4], "predicted": [1, 2], "pair": [0, 0, 1], "index": [5, 6, 7], "images": images, **other}
    np.savez_compressed(folder / "confusions.npz", **arrays)  # type: ignore[arg-type]


def test_examples_are_those_that_a_run_has_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", tail_skill=0.0)
    ((run,), _) = read_runs([folder])
    assert kept_examples(run) == {}
    keep(folder)
    found = kept_examples(run)
    assert {pair: images[:, 0, 0, 0].tolist() for pair, images in found.items()} == {(0, 1): [0, 1], (4, 2): [2]}
    mistakes = mistakes_of(methods_in(folder)[0])
    (true, predicted), _ = max(mistakes.items(), key=lambda item: item[1].images)
    keep(folder, true=[true, 0], predicted=[predicted, 1])
    table = confused_table(methods_in(folder))
    assert table is not None
    assert len(table.rows) == MOST_PAIRS
    assert table.columns[1].pictures
    assert table.rows[0].cells[1].picture.startswith("data:image/png;base64,")
    assert [len(row.cells) for row in table.rows] == [3] * MOST_PAIRS


@pytest.mark.parametrize("other", [{"images": np.zeros((3, 8))}, {"pair": [0]}, {"images": np.array([{}, {}, {}])}])
def test_a_damaged_file_of_examples_is_none(tmp_path: Path, other: dict) -> None:
    folder = write_run(tmp_path / "run")
    keep(folder, **other)
    ((run,), problems) = read_runs([folder])
    assert (kept_examples(run), problems) == ({}, [])


@pytest.mark.parametrize(("side", "channels", "height"), [(8, 1, 32), (8, 3, 32), (64, 3, 64)])
def test_tiny_images_are_magnified_in_whole_pixels(side: int, channels: int, height: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, side, side, channels), dtype=np.uint8)
    address = as_address(images)
    picture = np.array(Image.open(BytesIO(base64.b64decode(address.partition("base64,")[2]))))
    assert picture.shape == (height, 2 * height + 2, 4)
    factor = height // side
    assert (picture[::factor, :height:factor, :channels] == images[0]).all()
    assert (picture[:, height : height + 2, 3] == 0).all()  # the gap shows the page
