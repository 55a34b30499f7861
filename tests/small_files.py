"""Small files of every kind that tailmatch writes or reads, whole: what tests damage, and what must be read of them."""

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from tailmatch.engine.card import Card

CARD = Card(
    task="ssl",
    dataset="digits",
    model="cnn-digits",
    class_names=("zero", "öne"),
    channels=1,
    image_size=8,
    mean=(0.5,),
    std=(0.25,),
)
STATE = {"fc.weight": torch.arange(6.0).view(2, 3), "bn.num_batches_tracked": torch.tensor(7)}
RESULT: dict[str, Any] = {
    **{"schema": 1, "task": "ssl", "name": "run", "dataset": "digits", "algorithm": "fixmatch", "loss": "ikl"},
    **{"seed": 0, "status": "finished", "steps": 2, "total_steps": 2, "seconds": 1.5, "add_ons": [], "own_parts": {}},
    "accuracy": {"last": {"all": 0.5, "many": None, "medium": None, "few": None}},
    "groups": {"rule": "none", "many": [], "medium": [], "few": []},
    "class_names": ["a", "b"],
}
PIXELS = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.arange(6) % 2


def is_state(state: dict[str, torch.Tensor]) -> bool:
    """Whether these are the names and numbers of STATE."""
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


def npz(**arrays: Any) -> bytes:
    """An npz file of these arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


DATA = npz(train_images=PIXELS, train_labels=LABELS, test_images=PIXELS, test_labels=LABELS, class_names=["a", "b"])
PREDICTIONS = npz(logits=np.eye(6, 2, dtype=np.float32), labels=LABELS, train_class_counts=np.array([3, 3]))


def image(kind: str = "PNG", side: int = 4, colour: bool = False) -> bytes:
    """An image file."""
    pixels = np.resize(np.arange(251, dtype=np.uint8), (side, side, 3) if colour else (side, side))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def saved(write: Callable[[Path], object]) -> bytes:
    """What a function writes to the file that it is given, or beside it."""
    with TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return next(path for path in Path(folder).rglob("*") if path.is_file()).read_bytes()


def folder_of(write: Callable[[Path], object]) -> dict[str, bytes]:
    """The files, by their paths within, of the folder that a function makes."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        write(made)
        return {str(path.relative_to(made)): path.read_bytes() for path in sorted(made.rglob("*")) if path.is_file()}


def put(files: dict[str, bytes], folder: Path) -> None:
    """Write these files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
