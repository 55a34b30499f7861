"""What one run did with each test sample: everything the metrics need, and a thousandth of the logits' size.

Shapes: N test samples, C classes. Logits are read once, a few hundred rows at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TOP = 5
CHUNK_VALUES = 2**18  # logits at a time: their single-precision copies then stay in the processor's cache


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Per test sample [N]; what needs probabilities is None for a run that left only its predictions."""

    labels: Array
    predictions: Array
    """The most likely class (the first of equals)."""
    in_top: Array | None = None
    """Whether the true class is among the five most likely."""
    confidence: Array | None = None
    """Probability of the predicted class."""
    nll: Array | None = None
    """Negative log-probability of the true class, in nats."""
    brier: Array | None = None
    """Squared distance of the probabilities from the one-hot truth, between 0 and 2."""

    @property
    def correct(self) -> Array:
        """Whether the prediction is right, [N]."""
        return np.asarray(self.predictions == self.labels)


class NotFinite(Exception):
    """Logits with NaN or infinity in them; the message names the first such sample."""


def rows_at_a_time(num_classes: int) -> int:
    """Rows of logits that fit into the cache together."""
    return max(1, CHUNK_VALUES // max(1, num_classes))


def outcome_of_logits(chunks: Iterable[Array], labels: Array) -> Outcome:
    """Run over logits [rows, C] in chunks, in the order of the labels.

    Raises:
        NotFinite: at the first sample with NaN or +infinity (-infinity is a probability of 0).
    """
    count = len(labels)
    predictions = np.empty(count, np.int32)
    in_top = np.empty(count, bool)
    confidence, nll, brier = (np.empty(count, np.float32) for _ in range(3))
    start = 0
    for chunk in chunks:
        part = slice(start, start + len(chunk))
        scores = chunk.astype(np.float32)  # also the copy that is worked on in place
        rows = np.arange(len(scores))
        best = scores.argmax(1)
        highest, true = scores[rows, best], scores[rows, labels[part]]
        if not np.isfinite(highest).all():
            raise NotFinite(f"sample {start + int(np.argmin(np.isfinite(highest)))} has logits that are not finite")
        predictions[part] = best
        in_top[part] = _among_first(scores, true, labels[part])
        scores -= highest[:, None]
        np.exp(scores, out=scores)
        total = scores.sum(1)
        confidence[part] = 1 / total
        nll[part] = np.log(total) + highest - true
        probability = scores[rows, labels[part]] / total
        brier[part] = np.einsum("ij,ij->i", scores, scores) / total**2 - 2 * probability + 1
        start += len(chunk)
    return Outcome(labels=labels, predictions=predictions, in_top=in_top, confidence=confidence, nll=nll, brier=brier)


def _among_first(scores: Array, true: Array, labels: Array) -> Array:
    """Whether fewer than five classes come before the true one; among equal scores the lower class id comes first."""
    found = np.asarray(np.count_nonzero(scores >= true[:, None], axis=1) <= TOP)
    rest = np.flatnonzero(~found)
    above = np.count_nonzero(scores[rest] > true[rest, None], axis=1)
    for row, before in zip(rest[above < TOP], above[above < TOP], strict=True):  # equal scores decide: rare
        found[row] = before + np.count_nonzero(scores[row, : labels[row]] == true[row]) < TOP
    return found
