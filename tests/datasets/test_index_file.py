"""Files that say which training images are labelled: what they may hold, and a sentence for everything else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tailmatch.datasets.index_file import read_indices
from tailmatch.errors import UserError

LABELS = torch.tensor([0, 0, 1, 1, -1])
NAMES = ("ant", "beetle")


def written(folder: Path, content: object) -> Path:
    if isinstance(content, str):
        path = folder / "split.txt"
        path.write_text(content)
    else:
        path = folder / "split.npy"
        np.save(path, np.asarray(content))
    return path


@pytest.mark.parametrize("content", ["3\n 0\n\n1\n", [3, 0, 1], np.array([3, 0, 1], dtype=np.uint8)])
def test_order_and_kind_of_file_do_not_matter(content: object, tmp_path: Path) -> None:
    found = read_indices(written(tmp_path, content), LABELS, NAMES)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("0\n2\n5\n", "has the index 5, and the 5 training images have 0 to 4"),
        ("0\n-1\n", "has the index -1"),
        ("0\n2\n0\n", "has the index 0 more than once"),
        ("0\n2\n4\n", "has the index 4, and that training image has no label"),
        ("0\n1\n", "has no image of class 'beetle'"),
        ("", "holds no index"),
        ("0\n1.5\n", "line 2: expected one whole number, got '1.5'"),
        ("0 2\n", "line 1: expected one whole number, got '0 2'"),
        ("9" * 40, "line 1: expected one whole number"),
        ([0.0, 2.0], r"must hold whole numbers \[N\], got float64 \[2\]"),
        ([[0, 2]], r"must hold whole numbers \[N\], got int64 \[1, 2\]"),
        (np.array([2**63 + 1], dtype=np.uint64), "which no training image has"),
        (np.array([{}], dtype=object), "cannot be read as .npy"),
    ],
)
def test_refusals(content: object, sentence: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=sentence) as refusal:
        read_indices(path, LABELS, NAMES)
    assert str(refusal.value).startswith(str(path))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_indices(tmp_path / "none.txt", LABELS, NAMES)
    with pytest.raises(UserError, match=r"cannot be read as \.npy"):
        read_indices(tmp_path / "none.npy", LABELS, NAMES)
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8")
    with pytest.raises(UserError, match="it is not text"):
        read_indices(tmp_path / "photo.txt", LABELS, NAMES)
