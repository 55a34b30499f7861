"""CIFAR's batches, which are Python pickles: checked by their published MD5, then read with nothing but arrays allowed.

Pickles run whatever they name. These may name what an array of numbers is made of, and nothing else; every byte that is
read is a byte that was checked.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import _Unpickler  # in Python: the one in C makes room for as many objects as a damaged number says
from typing import Any

import numpy as np


def plain_reader(source: Any) -> Any:
    """torchvision's CIFAR10 or CIFAR100 with our reading in the place of its own; fetching and checking are its own.

    RuntimeError stands for a file that is missing or another one, as torchvision has it.
    """

    def read(self: Any, root: str | os.PathLike[str], train: bool, download: bool = False) -> None:
        self.root, self.train = os.fspath(root), train
        if download:
            self.download()
        folder = Path(self.root) / self.base_folder
        batches = [_checked(folder / name, md5) for name, md5 in (self.train_list if train else self.test_list)]
        arrays = [np.asarray(batch["data"]) for batch in batches]
        if any(array.dtype != np.uint8 or array.shape[1:] != (3072,) for array in arrays):
            raise RuntimeError("its batches hold no images")
        self.data = np.concatenate(arrays).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        self.targets = [label for batch in batches for label in batch.get("labels", batch.get("fine_labels"))]
        self.classes = _checked(folder / self.meta["filename"], self.meta["md5"])[self.meta["key"]]

    return type(source.__name__, (source,), {"__init__": read})


def _checked(path: Path, md5: str) -> Mapping[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RuntimeError(f"{path} is missing") from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise RuntimeError(f"{path} is not the published file")
    found: Mapping[str, Any] = OfArrays(content).load()
    return found


class _Kind:
    """What a pickle says of the type of an array's numbers; a byte has no order that its state could tell."""

    def __init__(self, name: object = None, *more: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


class _Bytes:
    """What a pickle says of an array of bytes. NumPy's own would take any state, and be broken by a false one."""

    array: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if isinstance(content, str):  # as Python 2 wrote it
            content = content.encode("latin1")
        known = isinstance(kind, _Kind) and kind.name in ("u1", "uint8") and isinstance(content, bytes)
        if not known or by_columns:
            raise RuntimeError("it holds other arrays than rows of bytes")
        self.array = np.frombuffer(content, np.uint8).reshape(shape)


class OfArrays(_Unpickler):
    """Reads a dictionary of lists, words, numbers and arrays of bytes; what a pickle names is never called.

    Raises:
        RuntimeError: for a pickle that names or holds anything else.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")

    def load(self) -> dict[Any, Any]:
        found = super().load()
        if not isinstance(found, dict):
            raise RuntimeError("it holds no dictionary")
        return {name: value.array if isinstance(value, _Bytes) else value for name, value in found.items()}

    def find_class(self, module: str, name: str) -> Any:
        # As Python 2 wrote them, as numpy 2 names them, and how Python 3 writes bytes in the older protocols.
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Bytes()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Bytes if name == "ndarray" else _Kind
        if (module, name) == ("_codecs", "encode"):
            return lambda text, *_: str(text).encode("latin1")
        raise RuntimeError(f"it names {module}.{name}, which no batch of CIFAR does")
