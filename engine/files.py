"""Files that are either whole or not there: written beside, flushed to the disk, then renamed into place."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from tailmatch.checksums import as_bytes, sealed_json
from tailmatch.errors import UserError


def refuse_special(path: Path) -> None:
    """Refuse a place where something lies that is no plain file: a folder, a link, a pipe or a device.

    Raises:
        UserError: naming it. A rename would put a file in its stead.
    """
    kind = next((words for words, is_it in _SPECIAL.items() if is_it(path)), None)
    if kind is not None:
        raise UserError(f"{path} is {kind}, and a file is to be written there; choose another place.")


_SPECIAL: dict[str, Callable[[Path], bool]] = {
    "a link": Path.is_symlink,
    "a folder": Path.is_dir,
    "no plain file": lambda path: path.exists() and not path.is_file(),
}


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """A file to be read; a pipe or a device in its place is refused at once, where opening it would wait for a writer.

    Raises:
        OSError: if it cannot be opened, or is no plain file.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file", os.fspath(path))
    return file


def read_plain(path: str | os.PathLike[str]) -> bytes:
    """All of a file; raises as `open_plain`."""
    with open_plain(path) as file:
        return file.read()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file beside `path`, make it durable, and put it in place.

    Raises:
        UserError: as `refuse_special`.
    """
    refuse_special(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:  # a full disk does not say where it is full
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """UTF-8; bytes of a file's name that are none stand in it as \\udcff."""
    write_atomically(path, lambda file: file.write(as_bytes(text)))


# For people and programs: indented, and without the NaN that JSON does not have.
_JSON: dict[str, Any] = {"indent": 2, "ensure_ascii": False, "allow_nan": False, "default": str}


def write_json(path: Path, value: Any) -> None:
    """JSON that other programs read too, or that has a checksum elsewhere."""
    write_text(path, json.dumps(value, **_JSON) + "\n")


def write_sealed_json(path: Path, entries: Mapping[str, Any]) -> None:
    """JSON with its own checksum, which `guarded_text.read_json` compares and leaves out."""
    write_text(path, sealed_json(entries, **_JSON))


def plain_name(words: str) -> str:
    """A file's or folder's name of these words, which may be a user's: what shells and paths would trip over goes."""
    return re.sub(r"[^\w.+=-]+", "-", words)


def _sync_folder(folder: Path) -> None:
    # The rename itself survives a power cut only once the folder is flushed; Windows has no way to ask for it.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
