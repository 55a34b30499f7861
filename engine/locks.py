"""One process at a time, by a lock on a file that ends with the process, however that ends."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailmatch.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes apart there
    fcntl = None  # type: ignore[assignment]


RUN_LOCK = ".lock"  # in every run folder, held while a run writes there


@contextmanager
def locked(path: Path, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock file (made where it is missing, and left).

    Args:
        refusal: what to say when another process holds it; None waits for that process.
    """
    with path.open("w") as file:
        if fcntl is not None:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise UserError(str(refusal)) from None
        yield


def is_locked(path: Path) -> bool | None:
    """Whether another process holds this lock; None where there is no telling (Windows, a file of somebody else's)."""
    if fcntl is None or not path.exists():
        return None if fcntl is None else False
    try:
        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go again at once, with the file
    except OSError as error:
        return True if error.errno in (errno.EACCES, errno.EAGAIN) and error.filename is None else None
    return False
