"""What a run folder says of its network. Free of torch.

The folder is named by a user: it may be of another task, unfinished, or altered by hand.
"""

from dataclasses import dataclass
from pathlib import Path

from tailmatch.declare import find
from tailmatch.engine.config import read_recipe, word_of
from tailmatch.engine.recorded import WEIGHTS_FILES, is_finished
from tailmatch.errors import UserError
from tailmatch.longtail.catalog import SECOND_STAGES
from tailmatch.longtail.config import LongtailConfig


@dataclass(frozen=True, kw_only=True)
class RecordedNetwork:
    """A run's network, the kind of its classifier, and a cosine one's factor on the logits."""

    model: str
    head: str = "linear"
    scale: float | None = None


def weights_of(folder: Path, which: str) -> Path:
    """The file of a finished run's weights, `last` or `selected`."""
    file = folder / WEIGHTS_FILES[which]
    if which == "selected" and not file.is_file():
        raise UserError(
            f"{folder} has no {file.name}: it was trained without validation images, so none could choose weights; "
            "take the last ones, or train it with --val-fraction."
        )
    return file


def recorded_network(folder: Path) -> RecordedNetwork:
    """The network of a finished run, from its recorded configuration."""
    path = folder / "config.yaml"
    if not is_finished(folder):
        raise UserError(
            f"{folder} is not a finished run: no result.json there says so; finish it with --resume, or give the file "
            "of a checkpoint."
        )
    if word_of(path, "task") == "longtail":
        config = read_recipe(LongtailConfig(), path, "longtail")
        method, scale = config.method, config.label_loss.scale
        model = method.model
        stage = find("second stage", method.stage2, SECOND_STAGES) if method.stage2 else None
        head = stage.head if stage else method.head or "linear"
    else:  # other tasks train networks with their own classifiers
        model, head, scale = word_of(path, "model"), "linear", None
    if model is None:
        raise UserError(
            f"{path} names no network (model: NAME), so it is not what a run wrote; give the weights of the run as a "
            "file, with --teacher NETWORK."
        )
    return RecordedNetwork(model=model, head=head, scale=scale if head == "cosine" else None)
