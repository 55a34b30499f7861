"""Trained networks from a run folder, a .safetensors file, or a PyTorch state dict (torchvision's, or of the authors of
long-tailed methods).

Teachers come from here, and what second stages start from.

Nothing is unpickled but tensors. A checkpoint that does not fit its network is refused with the layers that are missing
or too many, and with what has most likely happened.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tailmatch.engine.evaluation import Accuracy, show
from tailmatch.errors import UserError
from tailmatch.longtail.foreign_names import Renamed, tensors_of, under_our_names
from tailmatch.longtail.heads import replace_head
from tailmatch.longtail.recorded import recorded_network, weights_of
from tailmatch.models.build import build_model
from tailmatch.models.head import head_of

_SHOWN = 3


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
    head, scale = "linear", None
    if not checkpoint.exists():
        raise UserError(f"There is no checkpoint {checkpoint}; give a run folder or a file.")
    if checkpoint.is_dir():
        recorded = recorded_network(checkpoint)
        if name is not None and name != recorded.model:
            raise UserError(f"{checkpoint} holds a {recorded.model}, not a {name}; leave out --teacher.")
        head, scale = recorded.head, recorded.scale
        name, checkpoint = recorded.model, weights_of(checkpoint, weights)
    elif weights != "last":
        raise UserError(f"{checkpoint} is a file, which has one set of weights; --teacher-weights is for run folders.")
    if name is None:
        raise UserError(
            f"{checkpoint} does not say which network it is of; give --teacher, such as --teacher resnet50."
        )
    model = build_model(name, num_classes, channels, image_size)
    if head != "linear":
        replace_head(model, head, scale=scale)
    classifier = head_of(model)
    state, changes = under_our_names(
        read_state(checkpoint), next(name for name, module in model.named_modules() if module is classifier)
    )
    check_fits(model, state, name, checkpoint)
    model.load_state_dict(state, strict=False)  # old checkpoints lack BatchNorm's counters, which nothing reads
    return LoadedNetwork(name, model, changes)


def read_state(path: Path) -> Renamed:
    """The tensors of a checkpoint under its own names, without wrappers."""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception:
        # A file of something else can end in any error of pickle's inner workings (text as a checkpoint: an IndexError,
        # say), and none tells a broken file from one that holds more.
        raise UserError(
            f"{path} is neither a PyTorch nor a safetensors checkpoint of tensors alone; where it is known to be good, "
            "save it again as torch.save(model.state_dict(), path)."
        ) from None
    found = tensors_of(content)
    if not found.state:
        raise UserError(f"{path} holds no state dict: expected tensors by layer, or a dict with 'state_dict'.")
    return found


def check_fits(model: nn.Module, state: Mapping[str, Tensor], name: str, path: Path) -> None:
    """Refuse weights that are not this network's, naming the layers and the likely cause."""
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    reshaped = [key for key in own if key in state and own[key].shape != state[key].shape]
    if not (missing or unexpected or reshaped):
        return
    parts = [
        f"{len(keys)} layers {what} ({_listed(keys)})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if keys
    ]
    cause = _likely_cause(own, state, missing, unexpected, reshaped, name)
    raise UserError(f"{path} does not fit {name}: {', '.join(parts)}. {cause}")


def _likely_cause(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    reshaped: list[str],
    name: str,
) -> str:
    head = [key for key in reshaped if own[key].shape[1:] == state[key].shape[1:]]
    if head and head == reshaped and not missing and not unexpected:
        there, here = state[head[0]].shape[0], own[head[0]].shape[0]
        return f"It was trained for {there} classes, and this data set has {here}: take a teacher of the same classes."
    prefix = _common_prefix(missing, unexpected)
    if prefix:
        return f"All its names begin with {prefix!r}: save the state dict of the network itself, without its wrapper."
    if len(reshaped) > len(missing) + len(unexpected):
        return f"It is of a narrower or wider network, or for other images: name it by --teacher instead of {name}."
    if missing and unexpected:
        return f"It is of another kind of network: name it by --teacher instead of {name}."
    if unexpected:
        return f"It is of a deeper network, or one with more parts: name it by --teacher instead of {name}."
    return f"It is of a shallower network, or only a part was saved: name it by --teacher instead of {name}."


def _common_prefix(missing: list[str], unexpected: list[str]) -> str | None:
    """What stands before the right names, where that is all that is wrong."""
    if not missing or not unexpected:
        return None
    hits = [key for key in unexpected if key.endswith(f".{missing[0]}")]
    if not hits:
        return None
    prefix = hits[0].removesuffix(missing[0])
    return prefix if set(missing) <= {key.removeprefix(prefix) for key in unexpected} else None


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


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
