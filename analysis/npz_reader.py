"""Read arrays from an npz file a few rows at a time, without ever unpickling.

`np.load` reads an array whole; 50,000 x 1,000 logits are 100 MB even in half precision, and an analysis of fifty runs
needs each of them once, from front to back. Files written with `np.savez` stream at the disk's speed; those written
with `np.savez_compressed` work too, several times slower. Either way every byte passes the archive's checksum, and no
array may claim to be larger or smaller than what lies in the file.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PIECE = 1 << 24


class BrokenFile(Exception):
    """A file that cannot be used: which one, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class _Member(NamedTuple):
    """One array in the archive, read up to the end of its header."""

    path: Path
    name: str
    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[Any]
    file: IO[bytes]


class NpzReader:
    """The arrays of one npz file, by name; no file stays open between calls.

    Raises:
        BrokenFile: from every method, if the file is cut off, damaged, or holds Python objects.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}
        with self._archive() as archive:
            for entry in archive.namelist():
                if not entry.endswith(".npy"):  # something else, unless its name is damaged: it stands there twice
                    with _guard(path, entry):
                        archive.open(entry).close()
                    continue
                name = entry.removesuffix(".npy")
                with _member(archive, name) as member:
                    self.shapes[name], self.dtypes[name] = member.shape, member.dtype
        if not self.shapes:
            raise BrokenFile(path, "holds no arrays")

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def read(self, name: str) -> Array:
        """One array, whole."""
        with self._archive() as archive, _member(archive, name) as member:
            return _exactly(member).reshape(member.shape, order="F" if member.columns_first else "C")

    def row_chunks(self, name: str, rows: int) -> Iterator[Array]:
        """An array in pieces of up to `rows` rows, in its own dtype."""
        with self._archive() as archive, _member(archive, name) as member:
            if not member.shape:
                raise BrokenFile(self.path, f"{name} is one number, and many are wanted")
            count = member.shape[0]
            if member.columns_first:  # rows do not lie together, so there is nothing to stream
                whole = self.read(name)
                yield from (whole[start : start + rows] for start in range(0, count, rows))
                return
            for start in range(0, count, rows):
                here = min(rows, count - start)
                yield _exactly(member, here).reshape(here, *member.shape[1:])

    def _archive(self) -> zipfile.ZipFile:
        if self.path.exists() and not self.path.is_file():  # opening a pipe would wait for a writer
            raise BrokenFile(self.path, "is no file")
        try:
            return zipfile.ZipFile(self.path)
        except OSError as error:
            raise BrokenFile(self.path, f"cannot be opened ({error.strerror or error})") from None
        except Exception:  # what zipfile makes of broken bytes can be of any kind
            raise BrokenFile(self.path, "not a whole npz file; it was cut off, or is something else") from None


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[_Member]:
    path = Path(str(archive.filename))
    with _guard(path, name):
        file = archive.open(f"{name}.npy")
    with file:
        with _guard(path, name):
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"unknown format {version[0]}.{version[1]}")
            shape, columns_first, dtype = _HEADERS[version](file)
            _check_size(shape, dtype, archive.getinfo(f"{name}.npy").file_size - file.tell())
        if dtype.hasobject:
            raise BrokenFile(path, f"{name} holds Python objects, which could run code; save plain numbers or words")
        yield _Member(path, name, shape, columns_first, dtype, file)


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    if not dtype.hasobject and (math.prod(shape) * dtype.itemsize != size or not dtype.itemsize):
        wanted = " x ".join(map(str, shape)) or "one"
        raise ValueError(f"its header says {wanted} of {dtype}, and {size:,} bytes follow")


@contextmanager
def _guard(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what zlib and numpy's reader of headers make of broken bytes can be of any kind
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BrokenFile(path, f"{name} is damaged ({reason[:200]})") from None


def _exactly(member: _Member, rows: int | None = None) -> Array:
    """The next rows of a member (all of them by default), flat."""
    shape = member.shape if rows is None else (rows, *member.shape[1:])
    size = math.prod(shape) * member.dtype.itemsize
    with _guard(member.path, member.name):
        data = np.empty(size, np.uint8)
        for start in range(0, size, _PIECE):
            piece = member.file.read(min(_PIECE, size - start))
            if start + len(piece) < min(start + _PIECE, size):
                raise EOFError("it ends too early")
            data[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        if member.dtype.kind == "U":
            _check_characters(data, member.dtype)
    return data.view(member.dtype)


def _check_characters(data: Array, dtype: np.dtype[Any]) -> None:
    """Refuse what is no Unicode character: numpy and Python take it, and no file or page can be written with it."""
    codes = data.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    if bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any()):
        raise ValueError("a name in it is no text: name the classes in Unicode")
