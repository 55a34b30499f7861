"""Checkpoints as authors of long-tailed methods and of distillation save them, read under our networks' names.

    facebookresearch/classifier-balancing   state_dict_best: feat_model and classifier apart; LWS's scales beside its fc
    jiequancui/DKL, distillation            module.encoder.*
    jiequancui/DKL and PaCo                 encoder_q.* with an MLP as fc, the classifier apart as linear.*, and what
                                            the contrastive training needs: encoder_k.*, queue*
    RepDistiller, mdistiller                teachers on CIFAR-100: VGG's block0.*, wide ResNets' block1.layer.*, and
                                            ResNet-50's shortcut.* and linear.*

Only names change, but for LWS: a factor times a row of the classifier is that classifier. What is changed is said.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
_CONTAINERS = ("state_dict", "state_dict_best", "model", "model_state_dict", "net")
_PARTS = ("feat_model", "classifier")

State = dict[str, Tensor]


class Renamed(NamedTuple):
    """Tensors under our names."""

    state: State
    changes: tuple[str, ...]
    """What was done to the names, in words."""


def tensors_of(content: Any) -> Renamed:
    """The tensors of a checkpoint's content, out of what it is wrapped in."""
    changes: list[str] = []
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            changes += [] if container in ("state_dict", "model") else [f"taken from {container!r}"]
            break
    if isinstance(content, Mapping) and all(isinstance(content.get(part), Mapping) for part in _PARTS):
        content = {
            f"{part}.{_WRAPPERS.sub('', str(key))}": value for part in _PARTS for key, value in content[part].items()
        }
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, Tensor)}
    wrappers = dict.fromkeys(match.group() for key in tensors if (match := _WRAPPERS.match(key)))
    changes += [f"{wrapper}* read as *" for wrapper in wrappers]
    return Renamed({_WRAPPERS.sub("", key): value for key, value in tensors.items()}, tuple(changes))


def under_our_names(found: Renamed, head: str) -> Renamed:
    """Those of the authors' forms as a network of ours names them; any other as it is.

    Args:
        head: the name of the network's classifier, such as `fc`.
    """
    state = found.state
    for is_form, read in _FORMS:
        if is_form(state):
            renamed = read(state, head)
            return Renamed(renamed.state, found.changes + renamed.changes)
    return found


def _of_two_parts(state: State, head: str) -> Renamed:
    state, changes = dict(state), []
    scales = state.pop("classifier.scales", None)
    parts = [state.get(f"classifier.fc.{part}") for part in ("weight", "bias")]
    if scales is not None and all(part is not None and part.shape[:1] == scales.shape for part in parts):
        state["classifier.fc.weight"] = state["classifier.fc.weight"] * scales[:, None]
        state["classifier.fc.bias"] = state["classifier.fc.bias"] * scales
        changes.append("classifier.scales multiplied into the classifier")
    renamed = _with_prefixes(state, {"classifier.fc.": f"{head}.", "feat_model.": ""})
    return Renamed(renamed.state, (*renamed.changes, *changes))


def _encoder(state: State, head: str) -> Renamed:
    return _with_prefixes(state, {"encoder.": ""})


def _contrastive(state: State, head: str) -> Renamed:
    unused = ("encoder_k.", "encoder_q.fc.", "queue")
    left_out = [prefix for prefix in unused if any(key.startswith(prefix) for key in state)]
    kept = {key: value for key, value in state.items() if not key.startswith(unused)}
    renamed = _with_prefixes(kept, {"encoder_q.": "", "linear.": f"{head}."})
    return Renamed(renamed.state, (*renamed.changes, f"left out {', '.join(f'{prefix}*' for prefix in left_out)}"))


def _of_vgg(state: State, head: str) -> Renamed:
    return _rewritten(state, {r"^block(\d)\.": r"blocks.\1."})


def _of_wide_resnet(state: State, head: str) -> Renamed:
    groups = {rf"^block{group + 1}\.layer\.": f"groups.{group}." for group in range(3)}
    return _rewritten(state, {**groups, r"^bn1\.": "bn.", r"\.convShortcut\.": ".shortcut."})


def _of_resnet50(state: State, head: str) -> Renamed:
    return _rewritten(state, {r"\.shortcut\.": ".downsample.", r"^linear\.": f"{head}."})


_FORMS: tuple[tuple[Callable[[State], bool], Callable[[State, str], Renamed]], ...] = (
    (lambda state: all(key.startswith(("feat_model.", "classifier.")) for key in state), _of_two_parts),
    (lambda state: all(key.startswith("encoder.") for key in state), _encoder),
    (lambda state: "linear.weight" in state and any(key.startswith("encoder_q.") for key in state), _contrastive),
    (lambda state: "block0.0.weight" in state, _of_vgg),
    (lambda state: "block1.layer.0.conv1.weight" in state, _of_wide_resnet),
    (lambda state: "layer4.0.shortcut.0.weight" in state and "linear.weight" in state, _of_resnet50),
)


def _rewritten(state: State, rules: Mapping[str, str]) -> Renamed:
    """Every name with what the rules say replaced in it."""
    renamed: State = {}
    for key, value in state.items():
        for pattern, ours in rules.items():
            key = re.sub(pattern, ours, key)
        renamed[key] = value
    changed = sum(key not in state for key in renamed)
    return Renamed(renamed, (f"{changed} names of a teacher of CIFAR distillation rewritten",))


def _with_prefixes(state: State, prefixes: Mapping[str, str]) -> Renamed:
    """Every name with the first prefix that it has replaced."""
    renamed: State = {}
    used: dict[str, str] = {}
    for key, value in state.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        renamed[prefixes.get(prefix, "") + key.removeprefix(prefix)] = value
        if prefix:
            used[prefix] = prefixes[prefix]
    return Renamed(renamed, tuple(f"{prefix}* read as {ours}*" for prefix, ours in used.items()))
