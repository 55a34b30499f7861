"""The images of a data set, some at a time, with the digest of each: out of memory, or decoded out of their files.

Shape suffixes: N images of a split, B of them asked for, C channels, H and W pixels.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailmatch.datasets.base import Dataset, ImageSet
from tailmatch.datasets.catalog import CATALOG
from tailmatch.datasets.files.decode import Picture, reason_of
from tailmatch.datasets.files.file_set import FileSet
from tailmatch.datasets.files.load import FileDataset, load_file_dataset
from tailmatch.datasets.files.views import EvalView
from tailmatch.datasets.load import load_dataset
from tailmatch.engine.files import read_plain
from tailmatch.errors import UserError
from tailmatch.features.embed.backbone import Data, Preprocessing
from tailmatch.features.embed.config import EmbedConfig
from tailmatch.features.fingerprints import DIGEST_BYTES, data_fingerprint, digest_of, image_digests, text_digests

Digests = NDArray[np.uint8]


class Some(NamedTuple):
    """Some images in their order."""

    first: int
    pixels: Tensor  # uint8 [B, C, H, W]
    digests: Digests  # [B, 16]


class Split(Protocol):
    """The images of a split."""

    labels: NDArray[np.int64]
    fingerprint: str

    def read(self, rows: range, at_once: int, wanted: Preprocessing) -> Iterator[Some]:
        """The images of some places that follow one another, `at_once` at a time, for a network that wants them so."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set's images, not yet prepared for any network."""

    name: str
    data: Data
    flip: bool
    padding: int | None
    """By how many pixels a view may move an image; None: by an eighth of what the network sees."""
    splits: dict[str, Split]
    in_files: bool
    """Whether digests are of files instead of pixels, and fingerprints of paths."""


class InMemory:
    """Images that a data set holds in memory."""

    def __init__(self, images: ImageSet) -> None:
        self.labels = images.labels.numpy()
        self._images, self._digests = images.images, image_digests(images.images.numpy())
        self.fingerprint = data_fingerprint(self._digests, self.labels)

    def read(self, rows: range, at_once: int, wanted: Preprocessing) -> Iterator[Some]:
        for some in _parts(rows, at_once):
            here = slice(some.start, some.stop)
            yield Some(some.start, self._images[here], self._digests[here])


class InFiles:
    """Images that stay in their files, each brought to the network's size when it is read.

    The fingerprint is of their paths and labels: to read a hundred gigabytes for it would double the time.
    """

    def __init__(self, files: FileSet) -> None:
        self._files, self.labels = files, files.labels
        self.fingerprint = data_fingerprint(text_digests(files.relatives()), files.labels)

    def read(self, rows: range, at_once: int, wanted: Preprocessing) -> Iterator[Some]:
        """The next ones are decoded, by as many threads as there are cores, while these are worked on."""
        view = EvalView(size=wanted.size, short_side=max(wanted.size, round(wanted.size / wanted.crop)))
        parts = list(_parts(rows, at_once))
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
            coming = [pool.submit(self._one, index, view) for index in parts[0]]
            for part, following in zip(parts, [*parts[1:], range(0)], strict=True):
                decoded = [one.result() for one in coming]
                coming = [pool.submit(self._one, index, view) for index in following]
                digests = np.frombuffer(b"".join(digest for digest, _ in decoded), np.uint8)
                pixels = torch.stack([image for _, image in decoded])
                yield Some(part.start, pixels, digests.reshape(-1, DIGEST_BYTES))

    def _one(self, index: int, view: EvalView) -> tuple[bytes, Tensor]:
        path = self._files.path(index)
        try:
            content = read_plain(path)
            return digest_of(content), view.centre(Picture(content).decode())
        except (OSError, ValueError, SyntaxError) as error:  # Pillow reports a broken PNG as a SyntaxError
            raise UserError(
                f"The image {path} cannot be read ({reason_of(error)}); `run.py data check` lists all such files."
            ) from None


def open_source(config: EmbedConfig) -> Source:
    """The data set that the options name.

    Raises:
        UserError: as the data set's reader.
    """
    splits: dict[str, Split]
    if config.dataset in CATALOG:
        dataset: Dataset | FileDataset = load_dataset(
            config.dataset,
            config.data_root,
            image_size=config.image_size,
            test_fraction=config.test_fraction,
            extra=config.extra,
            fold=config.fold,
        )
        assert isinstance(dataset, Dataset)
        sets = {"train": dataset.train, "test": dataset.test, "val": dataset.val, "unlabeled": dataset.unlabeled}
        splits = {name: InMemory(images) for name, images in sets.items() if images is not None and len(images)}
        flip, padding = dataset.flip, dataset.crop_padding
    else:
        assert config.data_root is not None
        dataset = load_file_dataset(config.dataset, config.data_root)
        files = {"train": dataset.train, "test": dataset.test, "val": dataset.val}
        splits = {name: InFiles(some) for name, some in files.items() if some is not None}
        flip, padding = True, None
    data = Data(
        class_names=dataset.class_names,
        channels=dataset.channels,
        size=dataset.image_size,
        mean=dataset.mean,
        std=dataset.std,
    )
    return Source(
        name=dataset.name, data=data, flip=flip, padding=padding, splits=splits, in_files=config.dataset not in CATALOG
    )


def _parts(rows: range, at_once: int) -> Iterator[range]:
    return (rows[start : start + at_once] for start in range(0, len(rows), at_once))
