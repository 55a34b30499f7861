"""Smaller copies of all images, made once: decoding them takes a fraction of the time, epoch after epoch."""

import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tailmatch.datasets.files.decode import Picture, reason_of
from tailmatch.datasets.prepare.crew import failures
from tailmatch.engine.files import read_plain
from tailmatch.errors import UserError


def resized_folder(short_side: int, quality: int) -> str:
    """The name of the folder of copies, which says all that they depend on."""
    return f"resized-{short_side}-q{quality}"


def resize_all(
    root: Path, target: Path, paths: Sequence[str], short_side: int, quality: int, workers: int
) -> list[tuple[str, str]]:
    """Copies under the same relative paths; those there already are kept. Returns what failed, each with the reason."""
    try:
        for folder in sorted({path.rpartition("/")[0] for path in paths}):
            (target / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); name another folder with --prepared."
        ) from None
    copy = partial(resize_one, str(root), str(target), short_side=short_side, quality=quality)
    return failures(copy, paths, workers, f"resizing to {short_side}")


def resize_one(root: str, target: str, path: str, *, short_side: int, quality: int) -> str | None:
    """One copy; the reason if it failed, None if it is there."""
    place = Path(target, path)
    if is_whole(place):
        return None
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        copy = smaller(read_plain(Path(root, path)), short_side, quality)
        try:
            beside.write_bytes(copy)
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)
    except (OSError, ValueError, SyntaxError) as error:
        return reason_of(error)
    return None


def smaller(data: bytes, short_side: int, quality: int) -> bytes:
    """The image as a JPEG with this short side; as it is if it is a JPEG no larger than that."""
    picture = Picture(data)
    short = min(picture.width, picture.height)
    if short <= short_side and picture.header is not None and picture.header.channels == 3:
        picture.decode()  # a copy must not carry on what is broken
        return data
    # Twice the size wanted is kept by the decoder, so that the filter below decides what the copy looks like.
    reduction = next(r for r in (8, 4, 2, 1) if r == 1 or short // r >= 2 * short_side)
    image = Image.fromarray(np.ascontiguousarray(picture.decode(reduction=reduction)))
    if short > short_side:
        size = (max(1, round(side * short_side / short)) for side in (picture.width, picture.height))
        image = image.resize(tuple(size), Image.Resampling.LANCZOS)  # type: ignore[arg-type]
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def is_whole(place: Path) -> bool:
    """Whether a copy is there and was not cut off (by a full disk, or by the power)."""
    try:
        with place.open("rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:
        return False
