"""Trained networks from a run folder, a .safetensors file, or a PyTorch state dict (torchvision's, or of the authors of
the methods here).

Teachers come from here, and what second stages start from.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import load_weights
from tailmatch.engine.evaluation import Accuracy, show
from tailmatch.engine.recorded import WEIGHTS_FILES, is_finished, result_of
from tailmatch.errors import UserError
from tailmatch.models.build import build_model
from tailmatch.models.catalog import HEADS
from tailmatch.models.classifiers import replace_head
from tailmatch.models.foreign_names import under_our_names
from tailmatch.models.state_file import check_fits, head_name, read_state


class LoadedNetwork(NamedTuple):
    """A trained network."""

    name: str
    network: nn.Module
    changes: tuple[str, ...] = ()
    """What was done to the names of a checkpoint that names its layers otherwise."""


def load_network(
    name: str | None, checkpoint: Path, num_classes: int, channels: int, image_size: int, weights: str = "last"
) -> tuple[str, nn.Module]:
    """The network's name, and the network with the checkpoint's weights; the arguments are those of `read_network`."""
    return read_network(name, checkpoint, num_classes, channels, image_size, weights)[:2]


def read_network(
    name: str | None, checkpoint: Path, num_classes: int, channels: int, image_size: int, weights: str = "last"
) -> LoadedNetwork:
    """A trained network from a checkpoint.

    Args:
        name: the network; None where `checkpoint` is a run folder, which knows it.
        weights: which of a run folder: the `last`, or those `selected` on validation images.
    """
    sizes = (num_classes, channels, image_size)
    if not checkpoint.exists():
        raise UserError(f"There is no checkpoint {checkpoint}; give a run folder or a file.")
    if checkpoint.is_dir():
        return _of_run(name, checkpoint, weights_of(checkpoint, weights), sizes)
    if weights != "last":
        raise UserError(f"{checkpoint} is a file, which has one set of weights; --teacher-weights is for run folders.")
    if name is None:
        raise UserError(
            f"{checkpoint} does not say which network it is of; give --teacher, such as --teacher resnet50."
        )
    model = build_model(name, *sizes)
    state, changes = under_our_names(read_state(checkpoint), head_name(model))
    return LoadedNetwork(name, _filled(model, state, name, checkpoint), changes)


def _of_run(name: str | None, folder: Path, file: Path, sizes: tuple[int, int, int]) -> LoadedNetwork:
    """The network of a run of any task, as the card of its weights says."""
    card, state = load_weights(file)
    if name is not None and name != card.model:
        raise UserError(f"{folder} holds a {card.model}, not a {name}; leave out --teacher.")
    _refuse_own(card, folder)
    model = build_model(card.model, *sizes)
    if card.head != "linear":
        replace_head(model, card.head, scale=card.head_scale)
    return LoadedNetwork(card.model, _filled(model, state, card.model, file))


def _refuse_own(card: Card, folder: Path) -> None:
    """Refuse a network that its name does not build."""
    if card.own_model:
        raise UserError(f"{folder} holds a network of the user's own, {card.model}; take a run of a network by name.")
    if card.head not in HEADS:
        raise UserError(
            f"{folder} holds a network with a second classifier ({card.head}), which is no part of {card.model}; take "
            "a run without it."
        )


def _filled(model: nn.Module, state: Mapping[str, Tensor], name: str, checkpoint: Path) -> nn.Module:
    """The model with these weights, which must be its own."""
    check_fits(model.state_dict(), state, name, checkpoint)
    model.load_state_dict(state, strict=False)  # old checkpoints lack BatchNorm's counters, which nothing reads
    return model


def weights_of(folder: Path, which: str) -> Path:
    """The file of a finished run's weights, `last` or `selected`."""
    if not is_finished(folder):
        raise UserError(
            f"{folder} is not a finished run: no result.json there says so; finish it with --resume, or give the file "
            "of a checkpoint."
        )
    file = folder / WEIGHTS_FILES[which]
    if which == "selected" and not file.is_file():
        raise UserError(
            f"{folder} has no {file.name}: it was trained without validation images, so none could choose weights; "
            "take the last ones, or train it with --val-fraction."
        )
    return file


def refuse_other_store(run: Path, store: str, advice: str) -> None:
    """Raises UserError for a run folder whose network was trained on another store: it expects other features.

    Args:
        store: the id of the store whose features it is to be given.
        advice: what to do about it.
    """
    of_run = result_of(run).get("store") if run.is_dir() else None
    if of_run in (None, store):
        return
    raise UserError(
        f"{run} was trained on the feature store {str(of_run)[:12]}, so its network expects other features than "
        f"those of {store[:12]}; {advice}."
    )


def warn_if_near_chance(name: str, accuracy: Accuracy, num_classes: int) -> None:
    """Say loudly that a teacher knows next to nothing; its wrong order of classes is the usual reason."""
    chance = 1 / num_classes
    if (accuracy["all"] or 0.0) < chance + 0.05 * (1 - chance):
        print(
            f"\nWARNING: the teacher {name} is right on {show(accuracy)} of the test images, and guessing is right on "
            f"{100 * chance:.1f} %. Its checkpoint is untrained, for other classes, in another order of classes, or "
            "for images normalised otherwise. Distilling from it makes the student worse.\n",
            file=sys.stderr,
            flush=True,
        )
