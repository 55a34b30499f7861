"""The labelled images of a published split: a file of their places in the training set, counted from 0."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tailmatch.errors import UserError

_LONGEST = 18  # digits that surely fit into 64 bits


def read_indices(path: Path, labels: Tensor, class_names: Sequence[str]) -> Tensor:
    """The indices in `path`, sorted: an .npy of whole numbers [N], or a text with one on every line.

    Args:
        labels: int64 [N] of the training set that the indices are of.

    Raises:
        UserError: if the file cannot be read, an index is none, stands twice, is of no training image or of one
            without a label, or a class has no labelled image.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise UserError(f"{path} is no file; give an .npy file or a text of one index a line.")
    indices = _from_npy(path) if path.suffix == ".npy" else _from_text(path)
    if not len(indices):
        raise UserError(f"{path} holds no index; it must list the labelled training images, counted from 0.")
    outside = indices[(indices < 0) | (indices >= len(labels))]
    if len(outside):
        raise UserError(
            f"{path} has the index {outside[0]}, and the {len(labels)} training images have 0 to {len(labels) - 1}."
        )
    found, times = np.unique(indices, return_counts=True)
    if len(found) < len(indices):
        raise UserError(f"{path} has the index {found[times > 1][0]} more than once; every image may be listed once.")
    chosen = torch.from_numpy(found)
    unknown = chosen[labels[chosen] < 0]
    if len(unknown):
        raise UserError(f"{path} has the index {int(unknown[0])}, and that training image has no label.")
    counts = torch.bincount(labels[chosen], minlength=len(class_names)).tolist()
    if 0 in counts:
        raise UserError(
            f"{path} has no image of class {class_names[counts.index(0)]!r}; every class needs one at least."
        )
    return chosen


def _from_npy(path: Path) -> np.ndarray:
    try:
        indices = np.load(path, allow_pickle=False)
    except Exception as error:  # what numpy's reader of headers makes of broken bytes can be of any kind
        raise UserError(f"{path} cannot be read as .npy ({' '.join(str(error).split())}).") from None
    if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu" or indices.ndim != 1:
        kind = f"{indices.dtype} {list(indices.shape)}" if isinstance(indices, np.ndarray) else "an archive"
        raise UserError(f"{path} must hold whole numbers [N], got {kind}.")
    if indices.size and indices.max() > np.iinfo(np.int64).max:
        raise UserError(f"{path} has the index {indices.max()}, which no training image has.")
    return indices.astype(np.int64)


def _from_text(path: Path) -> np.ndarray:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"{path} cannot be read ({reason}); give an .npy file or a text of one index a line.") from None
    words = [(number, word) for number, line in enumerate(lines, start=1) if (word := line.strip())]
    for number, word in words:
        if not (word.removeprefix("-").isascii() and word.removeprefix("-").isdigit() and len(word) <= _LONGEST):
            raise UserError(f"{path}, line {number}: expected one whole number, got {word[:60]!r}.")
    return np.array([int(word) for _, word in words], dtype=np.int64)
