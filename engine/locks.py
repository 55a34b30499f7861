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
