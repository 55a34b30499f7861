"""Weights that a network starts from (`--init`): a file's, or those that torchvision publishes of it.

They are read under our names as teachers are. The classifier is taken where it is of as many classes and left as it was
drawn where not; everything else must fit.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from tailmatch.errors import UserError, nearest
from tailmatch.models.catalog import TORCHVISION_MODELS
from tailmatch.models.foreign_names import under_our_names
from tailmatch.models.options import InitOptions
from tailmatch.models.state_file import check_fits, head_name, read_state
from tailmatch.torchvision_import import torchvision


class Started(NamedTuple):
    """What a network started from."""

    weights: str
    """The file, or `torchvision:NAME`."""
    checksum: str
    """SHA-256 of the file."""
    loaded: int
    """How many of the network's tensors came from it."""
    renamed: tuple[str, ...]
    """What was done to its names, in words."""
    left_out: str | None
    """The tensors that stayed as they were drawn, and why, in words."""

    def options(self) -> dict[str, Any]:
        """The options that start from the very same again, by name."""
        return {"init": self.weights, "init_checksum": self.checksum}

    def in_words(self) -> str:
        loaded = f"{self.loaded} tensors of {self.weights} (sha256 {self.checksum[:12]}...)"
        left_out = f"left out: {self.left_out}" if self.left_out else "nothing left out"
        return f"{loaded}; {'; '.join(self.renamed) or 'none renamed'}; {left_out}"


def start_from(model: nn.Module, name: str, options: InitOptions, keeps_classifier: bool = True) -> Started | None:
    """Put the weights that the options name into the network, and say what was done; None where they name none.

    Args:
        name: the network's.
        keeps_classifier: whether its classifier is to come from there too, where it is of as many classes.

    Raises:
        UserError: where they cannot be had, are not the ones that were asked for, or do not fit.
    """
    if options.init is None:
        return None
    weights, path = (
        published_weights(name, options.init, "--init")
        if options.of_torchvision
        else (options.init, Path(options.init))
    )
    if path.is_dir():
        raise UserError(f"--init {path} is a folder; give a file of weights, such as {path / 'weights.safetensors'}.")
    if not path.exists():
        raise UserError(
            f"There is no file {path} for --init; give a .safetensors file or a PyTorch state dict, or torchvision for "
            "the weights that it publishes of the network."
        )
    checksum = _checksum(path)
    if options.init_checksum not in (None, checksum):
        raise UserError(
            f"{path} has the checksum {checksum}, and {options.init_checksum} is asked for (a run records that of the "
            "weights it began with); bring the same file, or leave out --init-checksum."
        )
    head = head_name(model)
    state, renamed = under_our_names(read_state(path), head)
    own = model.state_dict()
    left_out = _left_out(own, state, head, keeps_classifier)
    if left_out:
        own, state = ({key: value for key, value in each.items() if not _is_in(head, key)} for each in (own, state))
    check_fits(own, state, name, path, option="--model")
    model.load_state_dict(state, strict=False)  # without the classifier, or without BatchNorm's counters
    return Started(weights, checksum, len(state), renamed, left_out)


def _left_out(
    own: dict[str, torch.Tensor], state: dict[str, torch.Tensor], head: str, keeps_classifier: bool
) -> str | None:
    """Why the file's classifier is not taken, in words; None where it is."""
    weight = f"{head}.weight"
    names = ", ".join(key for key in own if _is_in(head, key))
    if weight not in state:
        return f"{names} (the file has no classifier)"
    if not keeps_classifier:
        return f"{names} (this run's classifier is of another kind)"
    there, here = len(state[weight]) if state[weight].ndim else 0, len(own[weight])
    return None if there == here else f"{names} (of {there} classes, and here are {here})"


def _is_in(part: str, key: str) -> bool:
    return key.startswith(f"{part}.")


def published_weights(name: str, weights: str, option: str) -> tuple[str, Path]:
    """The full name of torchvision's weights, and their file, which is fetched where it is not there yet.

    Args:
        weights: `torchvision`, or `torchvision:NAME`.
        option: what takes a file instead, for the errors.
    """
    library = torchvision("models")
    known = set(library.list_models()) & set(TORCHVISION_MODELS)
    if name not in known:
        raise UserError(
            f"torchvision publishes no weights of {name}; give {option} FILE, or a network that it has weights of: "
            f"{', '.join(sorted(known))}."
        )
    entry, path = fetched(name, weights.partition(":")[2], option)
    return f"torchvision:{entry.name}", path


def fetched(name: str, tag: str, option: str) -> tuple[Any, Path]:
    """Weights that torchvision publishes of a network of its own, and their file, fetched where it is not there yet.

    Args:
        tag: which ones; empty for its best.
        option: what takes a file instead, for the errors.
    """
    entries = torchvision("models").get_model_weights(name)
    asked = tag or entries.DEFAULT.name
    if asked not in entries.__members__:
        raise UserError(
            f"torchvision has no weights {asked!r} of {name}.{nearest(asked, entries.__members__)} "
            f"It has: {', '.join(entry.name for entry in entries)}."
        )
    entry = entries[asked]
    url = entry.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # torchvision's names end in the first digits of the file's SHA-256.
            torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2], progress=False)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{url} cannot be fetched to {path} ({error}); fetch it on another machine, and give it as "
                f"{option} FILE."
            ) from None
    return entry, path


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
