"""Where a network's stages are: the places at which feature distillation looks, named once by each network.

A network of ours says so in `stages`; torchvision's are read from their layout here.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from tailmatch.errors import UserError
from tailmatch.models.head import unwrapped


class Stage(NamedTuple):
    """One stage, by the names of modules as `get_submodule` takes them."""

    output: str
    """Its last module, whose output the features are."""
    activation: str = ""
    """The activation whose input the same features are before it (in its last call); empty where none follows, so that
    the features are their own pre-activation."""
    norm: str = ""
    """The BatchNorm just before that: its shift and scale say how the pre-activations are spread."""


Stages = Mapping[str, Stage]
"""Stages by name, in the order of the forward pass; the first is the stem."""


def stages_of(model: nn.Module) -> Stages:
    """The stages of a network, also within DistributedDataParallel and torch.compile.

    Raises UserError for a network that names none.
    """
    own = unwrapped(model)
    stages: Any = getattr(own, "stages", None)  # timm has networks where `stages` is a module
    if isinstance(stages, Mapping) and all(isinstance(stage, Stage) for stage in stages.values()):
        return stages
    if type(own).__module__ == "torchvision.models.resnet":
        return _of_resnet(own)
    if type(own).__module__.startswith("torchvision.models.mobilenet"):
        return _of_mobilenet(own.get_submodule("features"))
    raise UserError(
        f"{type(own).__name__} does not name its stages, which methods that compare features need; take a method that "
        "compares logits, or a network of images that is listed by name."
    )


def _of_resnet(model: nn.Module) -> dict[str, Stage]:
    """The stem before its pooling, and the four groups."""
    stages = {"stem": Stage("relu", "relu", "bn1")}
    for group in ("layer1", "layer2", "layer3", "layer4"):
        last = f"{group}.{len(list(model.get_submodule(group).children())) - 1}"
        norm = "bn3" if hasattr(model.get_submodule(last), "bn3") else "bn2"
        stages[group] = Stage(group, f"{last}.relu", f"{last}.{norm}")
    return stages


def _of_mobilenet(features: nn.Module) -> dict[str, Stage]:
    """The stem, and after it what lies between one halving of the image and the next; blocks end without activation."""
    blocks = dict(features.named_children())
    *names, _widening = blocks  # the 1 x 1 convolution before the classifier
    stem = list(blocks["0"].named_children())
    stages = {"stem": Stage("features.0", f"features.0.{stem[-1][0]}", f"features.0.{stem[-2][0]}")}
    for name, following in zip(names[1:], [*names[2:], None], strict=True):
        if following is None or _halves(blocks[following]):
            norm = [path for path, module in blocks[name].named_modules() if isinstance(module, nn.BatchNorm2d)][-1]
            stages[f"stage{len(stages)}"] = Stage(f"features.{name}", norm=f"features.{name}.{norm}")
    return stages


def _halves(block: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.stride == (2, 2) for module in block.modules())
