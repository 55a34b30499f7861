"""All features of a store under one row of numbers, so that an image of it is a number to everything that draws images.

Shape suffixes: n rows asked for, N rows in all, V views of a kind, F features.
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tailmatch.datasets.own_data import machine_memory
from tailmatch.errors import UserError
from tailmatch.features.store import FeatureStore, open_store

TRAINED = ("train", "unlabeled")
"""The splits that are trained on: a kind of views counts as stored where all of them have it."""
LARGEST_SHARE = 0.25
"""Of the machine's memory, that one kind of views may fill; more of it is gathered from the files at every draw."""
_KEPT = 2  # stores of a process: a run's own, and its teacher's
_AT_ONCE = 128  # rows: with their squares they stay in a core's cache


class Standard:
    """Features to float32 with the mean 0 and the standard deviation 1, by these of each feature."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        deviation = torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / deviation).float()
        self._bias = (-torch.tensor(mean, dtype=torch.float64) / deviation).float()

    def __call__(self, features: Tensor, out: Tensor | None = None) -> Tensor:
        if self._scale.device != features.device:
            self._scale, self._bias = self._scale.to(features.device), self._bias.to(features.device)
        return torch.addcmul(self._bias, features.float(), self._scale, out=out)


class FeatureBank:
    """The views of a store's images, by row: those that are trained on first, then all others.

    A kind of views that fits is read whole into one tensor when the first of it is asked for: standardised, which costs
    no more than the draws of a short run, or in half precision where only that fits, and on a GPU.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store, self.size = store, store.feature_size
        if "train" not in store.splits or "test" not in store.splits:
            raise UserError(f"{store.path} has the splits {', '.join(store.splits)}; training needs train and test.")
        trained = [split for split in TRAINED if split in store.splits]
        self._splits = [*trained, *(split for split in store.splits if split not in trained)]
        ends = np.cumsum([len(store[split]) for split in self._splits]).tolist()
        self._first = dict(zip(self._splits, [0, *ends[:-1]], strict=True))
        views = [store[split].views for split in trained]
        self.views = {kind: min(split.get(kind, 0) for split in views) for kind in ("weak", "strong")}
        """How many of each augmented kind there are of every image that is trained on; 0 where they are not stored."""
        self._tables: dict[tuple[str, torch.device, torch.dtype], Tensor | None] = {}

    def rows(self, split: str) -> Tensor | None:
        """int64, the rows of a split; None where the store lacks it."""
        if split not in self._first:
            return None
        first = self._first[split]
        return torch.arange(first, first + len(self.store[split]))

    def gather(self, rows_n: Tensor, kind: str, view_n: Tensor | None = None) -> Tensor:
        """float16 [n, F] on the rows' device: of each row the view that is asked for, or its only one.

        Views of a kind other than `plain` can be had of the rows that are trained on.
        """
        table = self._table(kind, rows_n.device, torch.float16)
        if table is None:
            return self._read(rows_n, kind, view_n).to(rows_n.device)
        return table.index_select(0, self._places(rows_n, kind, view_n))

    def standardised(self, rows_n: Tensor, kind: str, view_n: Tensor | None = None) -> Tensor:
        """float32 [n, F]: the same by the store's own statistics."""
        table = self._table(kind, rows_n.device, torch.float32) if rows_n.device.type == "cpu" else None
        if table is None:
            return self.standard(self.gather(rows_n, kind, view_n))
        return table.index_select(0, self._places(rows_n, kind, view_n))

    def read_ahead(self, kinds: Iterable[str]) -> None:
        """Read these kinds of views now, as far as they are stored and fit, and what tells images apart."""
        _ = self._digests
        for kind in kinds:
            if kind == "plain" or self.views[kind]:
                self._table(kind, torch.device("cpu"), torch.float32)

    def logits(self, rows_n: Tensor, kind: str = "plain", view: int = 0) -> np.ndarray:
        """float32 [n, C] the logits of a view, where the store holds any."""
        return self._per_split(rows_n, lambda split, rows, _: self.store[split].logits(rows, kind, view))

    def digests(self, rows: Tensor) -> np.ndarray:
        """uint8 [n, 16]: by which images are told apart."""
        return self._digests[rows.cpu().numpy()]

    def described(self) -> dict[str, Any]:
        """What has to be known of the features to classify others by a network that was trained on these."""
        return {"store": self.store.id, "about": self.store.card["about"]}

    @cached_property
    def _digests(self) -> np.ndarray:
        return np.concatenate([self.store[split].digests() for split in self._splits])

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each feature over the plain views of the training split, all of it.

        They do not depend on a run's split, so networks trained on one store all see the same. A feature that never
        varies is divided by 1.
        """
        total = torch.zeros(2, self.size, dtype=torch.float64)
        origin: Tensor | None = None  # near the mean, so that squares do not drown what varies
        for _, part in self.store["train"].parts("plain"):
            for rows in torch.from_numpy(part[:, 0].copy()).split(_AT_ONCE):
                values = rows.float()
                origin = values.mean(0) if origin is None else origin
                values -= origin
                total[0] += values.sum(0)
                total[1] += values.square_().sum(0)
        assert origin is not None
        mean, square = total / len(self.store["train"])
        deviation = (square - mean**2).clamp_min(0).sqrt()
        deviation[deviation <= 1e-6 * deviation.max()] = 1.0
        return tuple((mean + origin).tolist()), tuple(deviation.tolist())

    @cached_property
    def standard(self) -> Standard:
        return Standard(*self.statistics)

    def _places(self, rows_n: Tensor, kind: str, view_n: Tensor | None) -> Tensor:
        """Where the views are in the table of their kind."""
        return rows_n if view_n is None else rows_n * self.views.get(kind, 1) + view_n.to(rows_n.device)

    def _table(self, kind: str, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """[N V, F] of a kind, read once: float32 standardised, float16 as stored; None where it is too large."""
        key = (kind, device, dtype)
        if key not in self._tables:
            splits = [split for split in self._splits if kind == "plain" or split in TRAINED]
            shape = (sum(len(self.store[split]) for split in splits), self.views.get(kind, 1), self.size)
            fits = dtype.itemsize * int(np.prod(shape)) <= LARGEST_SHARE * machine_memory()
            self._tables[key] = self._load(kind, splits, shape, dtype).to(device) if fits else None
        return self._tables[key]

    def _load(self, kind: str, splits: list[str], shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
        table = torch.empty(shape, dtype=dtype)
        for split in splits:
            for first, part in self.store[split].parts(kind):
                whole = table[self._first[split] + first :]
                for begin in range(0, len(part), _AT_ONCE):
                    some = torch.from_numpy(part[begin : begin + _AT_ONCE, : shape[1]].copy())
                    place = whole[begin : begin + len(some)]
                    if dtype == torch.float32:
                        self.standard(some, out=place)
                    else:
                        place.copy_(some)
        return table.flatten(0, 1)

    def _read(self, rows_n: Tensor, kind: str, view_n: Tensor | None) -> Tensor:
        """The same rows from the files."""
        views = np.zeros(len(rows_n), np.int64) if view_n is None else view_n.cpu().numpy()
        return torch.from_numpy(
            self._per_split(rows_n, lambda split, rows, here: self.store[split].features(rows, kind, views[here]))
        )

    def _per_split(self, rows_n: Tensor, read: Callable[[str, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """[n, ...] what `read` gives of (split, rows within it, their places among the n), put together."""
        rows, found = rows_n.cpu().numpy(), None
        for split, first in self._first.items():
            here = np.flatnonzero((rows >= first) & (rows < first + len(self.store[split])))
            if len(here):
                part = read(split, rows[here] - first, here)
                found = np.empty((len(rows), part.shape[1]), part.dtype) if found is None else found
                found[here] = part
        assert found is not None, "no rows were asked for"
        return found


_last: list[FeatureBank] = []


def open_bank(path: Path) -> FeatureBank:
    """The bank of the store in a folder: one of the last of this process, where it is of that very store.

    A run's teacher and its baseline, or the runs of a suite, read it once between them.

    Raises:
        UserError: as `open_store`, or if it lacks a split.
    """
    store = open_store(path)
    alike = [bank for bank in _last if (bank.store.id, bank.store.path.resolve()) == (store.id, store.path.resolve())]
    bank = alike[0] if alike else FeatureBank(store)
    _last[:] = [bank, *(other for other in _last if other is not bank)][:_KEPT]
    return bank
