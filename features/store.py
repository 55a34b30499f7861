"""Read a feature store: rows gathered from memory-mapped shards, none of them loaded whole. numpy only.

from tailmatch.features import open_store

store = open_store("stores/cifar10")
store.class_names, store.card["about"]["backbone"]
train = store["train"]
train.labels                                  # int64 [image]
train.features([7, 3])                        # half precision [2, feature], the plain view
train.features([7, 3], "strong", view=None)   # [2, view, feature]

Opening looks at the card, the labels, and of every shard at its size and its header: some 20 microseconds a shard. The
checksum of a shard is compared when the first of its rows is asked for, and never again while the file stays the same:
to read a hundred gigabytes before the first step of every run would cost more than the run. `verify` reads all.

Shape suffixes: n rows asked for, V views, F features, C classes.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailmatch.errors import UserError, unknown_name
from tailmatch.features import logits as logits_of
from tailmatch.features.layout import AGAIN, CARD, DIGESTS, LABELS, VERIFIED, Place, SplitPlan, StorePlan
from tailmatch.features.shard import Shard

Array = NDArray[Any]
Half = NDArray[np.float16]
Rows = Sequence[int] | NDArray[np.integer[Any]] | None
"""Images by their place in the split, in any order and also repeatedly; None for all."""

_MOST_MAPS = 256
"""Shards of a split that are mapped at once: every map holds an open file, and systems allow some hundreds."""


def open_store(path: str | os.PathLike[str]) -> "FeatureStore":
    """The store in a folder that `run.py embed` wrote.

    Raises:
        UserError: naming the file, if there is none, it is not finished, or a part of it is not what was written.
    """
    return FeatureStore(Path(path).expanduser())


class FeatureStore:
    """A store, by its splits: `store["train"]`.

    Attributes:
        path: its folder.
        card: all that its card says; `about` holds backbone, preprocessing, data, versions and licences.
        id: names this very content.
        class_names: of the data set, in the order of the labels.
        splits: by name: `train`, `test` and perhaps `val` and `unlabeled`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.card, self.plan = read_card(path)
        self.id: str = self.card["id"]
        self.class_names, self.feature_size = self.plan.class_names, self.plan.feature_size
        _refuse_unfinished(path, self.plan)
        journal = Journal(path)
        self.splits = {name: StoredSplit(self, name, journal) for name in self.plan.splits}

    def __getitem__(self, split: str) -> "StoredSplit":
        if split not in self.splits:
            raise unknown_name(f"split of {self.path}", split, self.splits)
        return self.splits[split]

    def array(self, file: str) -> Array:
        """A small array beside the shards, such as `text_features.npy`: the class names' text features [C, F].

        Raises:
            UserError: if the store has none of that name, or it is damaged.
        """
        if file not in self.plan.arrays:
            raise unknown_name(f"array of {self.path}", file, self.plan.arrays)
        return _read_array(self.path / file, self.plan.arrays[file])

    def verify(self) -> None:
        """Read every byte, whatever has been read before.

        Raises:
            UserError: naming the first file that is not what was written.
        """
        for file in self.plan.arrays:
            self.array(file)
        for split in self.splits.values():
            split.verify()


class StoredSplit:
    """The images of one split.

    Attributes:
        labels: int64 [image]; -1 where none is known.
        views: how many views of each kind there are: {"plain": 1, "weak": 2, "strong": 4}.
        seeds: of the augmented views, by kind.
        fingerprint: names these images, their labels and their order.
    """

    def __init__(self, store: FeatureStore, name: str, journal: "Journal") -> None:
        plan: SplitPlan = store.plan.splits[name]
        self.name, self.views, self.seeds, self.fingerprint = name, plan.views, plan.seeds, plan.fingerprint
        self.feature_size, self.logits_plan = store.feature_size, store.plan.logits
        self.labels: NDArray[np.int64] = store.array(f"{name}/{LABELS}")
        if self.labels.shape != (plan.images,):
            raise UserError(f"{store.path / name / LABELS} has {len(self.labels)} labels for {plan.images} images.")
        self._rows, self._journal = store.plan.rows, journal
        self._shards = [Shard(store.path, store.plan, store.id, place) for place in store.plan.places(name)]
        self._mapped = lru_cache(_MOST_MAPS)(self._map)

    def __len__(self) -> int:
        return len(self.labels)

    def features(self, rows: Rows = None, kind: str = "plain", view: int | Array | None = 0) -> Half:
        """Half precision features of some images, copied.

        Args:
            kind: `plain`, `weak` or `strong`.
            view: which of the kind; an array [n] for one of its own for each row; None for all.

        Returns:
            [n, F], or [n, V, F] of all views.
        """
        self._check_kind(kind)
        return self._gather(kind, rows, view)

    def logits(self, rows: Rows = None, kind: str = "plain", view: int | Array | None = 0) -> NDArray[np.float32]:
        """float32 logits of some images, [n, C] or [n, V, C]; the arguments are those of `features`.

        Where only the largest were kept, these are log-probabilities, and the classes left out share what remains
        evenly.

        Raises:
            UserError: if the store holds none.
        """
        self._check_kind(kind)
        plan = self.logits_plan
        if plan is None:
            raise UserError("This store holds no logits; make one with --logits whole.")
        names = plan.tensors(kind, 0, 0)
        return logits_of.unpacked(kind, {name: self._gather(name, rows, view) for name in names}, plan)

    def digests(self, rows: Rows = None) -> NDArray[np.uint8]:
        """[n, 16], by which images are matched with those of another store or of a run; see `image_digests`."""
        return self._gather(DIGESTS, rows, None)

    def parts(self, kind: str = "plain") -> Iterator[tuple[int, Half]]:
        """All images from the first to the last, a shard at a time: (number of the first one, features [N, V, F]).

        The arrays are the mapped files themselves and cannot be written to.
        """
        self._check_kind(kind)
        for number, shard in enumerate(self._shards):
            yield shard.place.first, self._mapped(number)[kind]

    def verify(self) -> None:
        """Compare the checksum of every shard.

        Raises:
            UserError: naming the first one that is damaged.
        """
        for shard in self._shards:
            shard.verify()
            self._journal.add(shard)

    def _map(self, number: int) -> dict[str, Array]:
        shard = self._shards[number]
        if not self._journal.knows(shard):
            shard.verify()
            self._journal.add(shard)
        return shard.arrays()

    def _gather(self, name: str, rows: Rows, view: int | Array | None) -> Array:
        """Rows of one array of the shards; those of a shard at once."""
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"The {self.name} images have the numbers 0 to {len(self) - 1}, got {wanted.tolist()}.")
        shards, within = np.divmod(wanted, self._rows)
        order = np.argsort(shards, kind="stable")
        first = np.flatnonzero(np.diff(shards[order], prepend=-1))
        groups = np.split(order, first[1:]) if len(order) else [order]
        own_view = view if view is None or isinstance(view, int) else np.asarray(view)
        result: Array | None = None
        for group in groups:
            array = self._mapped(int(shards[group[0]]) if len(group) else 0)[name]
            chosen: Any = within[group]
            if own_view is not None:
                chosen = (chosen, own_view[group] if isinstance(own_view, np.ndarray) else own_view)
            found = array[chosen]
            if result is None:
                result = np.empty((len(wanted), *found.shape[1:]), found.dtype)
            result[group] = found
        assert result is not None
        return result

    def _check_kind(self, kind: str) -> None:
        if kind not in self.views:
            raise unknown_name(f"kind of views of the {self.name} images", kind, self.views)


class Journal:
    """Which shards were found right, as they now are; a line each, added at the end.

    Size, times of change and number of the file are in it, so a shard that is written to, replaced or copied is
    compared again. Where the folder cannot be written to, every process compares for itself.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / VERIFIED
        try:
            self._lines = set(self._file.read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError:
            self._lines = set()

    def knows(self, shard: Shard) -> bool:
        return self._line(shard) in self._lines

    def add(self, shard: Shard) -> None:
        line = self._line(shard)
        if line in self._lines:
            return
        self._lines.add(line)
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")  # begins anew after a line that was cut off
        except OSError:
            pass

    def _line(self, shard: Shard) -> str:
        return f"{shard.checksum} {shard.stamp()}"


def read_card(path: Path) -> tuple[dict[str, Any], StorePlan]:
    """A store's card.

    Raises:
        UserError: if there is no store, or its card cannot be used.
    """
    file = path / CARD
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        return card, StorePlan.of_card(card)
    except FileNotFoundError:
        raise UserError(
            f"{path} holds no feature store: {CARD} is missing; make one with `run.py embed --out {path}`."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error} in it" if isinstance(error, KeyError) else error
        raise UserError(f"{file} is not the card of a feature store ({reason}); make the store anew.") from None


def _refuse_unfinished(path: Path, plan: StorePlan) -> None:
    places: list[Place] = plan.all_places()
    missing = [place.name for place in places if not (path / place.name).exists()]
    if missing:
        raise UserError(
            f"{path} is not finished: {len(missing)} of {len(places)} shards are missing, the first {missing[0]}; "
            f"{AGAIN}."
        )


def _read_array(file: Path, checksum: str) -> Array:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file} is missing; {AGAIN}.") from None
    if hashlib.sha256(content).hexdigest() != checksum:
        raise UserError(f"{file} is damaged or of another store; {AGAIN}.")
    stream = io.BytesIO(content)
    array: Array = np.load(stream, allow_pickle=False)
    return array
