"""Whether image files can be read: by their beginning and end, or by decoding every pixel."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tailmatch.datasets.files.decode import Picture, jpeg_header, reason_of
from tailmatch.datasets.prepare.config import Verify
from tailmatch.datasets.prepare.crew import failures
from tailmatch.engine.files import open_plain

_HEAD = 1 << 14


def unreadable(root: Path, paths: Sequence[str], verify: Verify, workers: int, title: str) -> list[tuple[str, str]]:
    """The files that cannot be read, each with the reason.

    Args:
        verify: `names`: look at none; `headers`: at the beginning and the end of each, which finds what is cut off or
            no image; `pixels`: decode each.
    """
    if verify == "names":
        return []
    return failures(partial(fault, str(root), pixels=verify == "pixels"), paths, workers, title)


def fault(root: str, path: str, *, pixels: bool) -> str | None:
    """Why an image cannot be read; None if it can."""
    try:
        with open_plain(Path(root, path)) as file:
            head = file.read(_HEAD)
            if not pixels and jpeg_header(head) is not None and file.seek(0, 2) > _HEAD:
                file.seek(-2, 2)
                if file.read() == b"\xff\xd9":
                    return None
            file.seek(0)
            Picture(file.read()).decode()
    except (OSError, ValueError, SyntaxError) as error:  # Pillow reports a broken PNG as a SyntaxError
        return reason_of(error)
    return None
