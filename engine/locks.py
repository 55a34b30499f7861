"""One process at a time, by a lock on a file that ends with the process, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tailmatch.errors import UserError

RUN_LOCK = ".lock"  # in every run folder, held while a run writes there


@contextmanager
def locked(path: Path, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock file (made where it is missing).

    Args:
        refusal: what to say when another process holds it; None waits for that process.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=refusal is None)
    except Timeout:
        raise UserError(str(refusal)) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool | None:
    """Whether another process holds this lock; None where there is no telling (a file of somebody else's)."""
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):  # let go again at once
            return False
    except Timeout:
        return True
    except OSError:
        return None
