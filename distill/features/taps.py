"""What a network makes of images on the way to its logits, by forward hooks: the network's code knows nothing of it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tailmatch.distill.features.base import PREACTIVATIONS, STAGES, Activations, FeatureShapes
from tailmatch.models.head import head_of, unwrapped
from tailmatch.models.stages import Stage, stages_of

POOLED = "pooled"


class Taps:
    """Hooks on a network that keep what a method looks at, for the time of a call.

        activations = taps(model, images)

    `model` is the network itself or what wraps it; the hooks sit on the network, and do nothing in other calls. Set
    them before `torch.compile` traces the network. `close` takes them off.
    """

    def __init__(self, network: nn.Module, looks_at: Iterable[str]) -> None:
        own = unwrapped(network)
        self._stages = _after_the_stem(own) if looks_at else []
        self._kept: dict[Any, Tensor] = {}
        self._listening = False
        self._looks_at = frozenset(looks_at)
        self._hooks = [head_of(own).register_forward_pre_hook(self._keep_input(POOLED))]
        self._changed: list[nn.Module] = []
        for place, stage in enumerate(self._stages):
            self._tap(own, place, stage)

    def _tap(self, network: nn.Module, place: int, stage: Stage) -> None:
        if STAGES in self._looks_at:
            output = network.get_submodule(stage.output)
            self._hooks.append(output.register_forward_hook(self._keep_output((STAGES, place))))
        if PREACTIVATIONS not in self._looks_at:
            return
        if not stage.activation:
            output = network.get_submodule(stage.output)
            self._hooks.append(output.register_forward_hook(self._keep_output((PREACTIVATIONS, place))))
            return
        activation = network.get_submodule(stage.activation)
        if getattr(activation, "inplace", False):  # what is kept would be overwritten
            activation.inplace = False  # type: ignore[assignment]
            self._changed.append(activation)
        self._hooks.append(activation.register_forward_pre_hook(self._keep_input((PREACTIVATIONS, place))))

    def __call__(self, model: nn.Module, images: Tensor) -> Activations:
        self._listening = True
        try:
            logits = model(images)
            found = {
                kind: tuple(self._kept[kind, place] for place in range(len(self._stages)))
                if kind in self._looks_at
                else ()
                for kind in (STAGES, PREACTIVATIONS)
            }
            return Activations(found[STAGES], found[PREACTIVATIONS], self._kept[POOLED].flatten(1), logits)
        finally:
            self._listening = False
            self._kept.clear()

    def close(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()
        for activation in self._changed:
            activation.inplace = True  # type: ignore[assignment]
        self._hooks, self._changed = [], []

    def _keep_output(self, key: Any) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if self._listening:
                self._kept[key] = output

        return keep

    def _keep_input(self, key: Any) -> Callable[..., None]:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if self._listening:  # of several calls, the last
                self._kept[key] = inputs[0]

        return keep


def shapes_of(network: nn.Module, images: Tensor, of_stages: bool = True) -> FeatureShapes:
    """The sizes of a network's features, by one pass of images such as it will see; it is left as it was.

    Args:
        of_stages: False leaves them out, for a network that names none.
    """
    own = unwrapped(network)
    trained = [module for module in own.modules() if module.training]
    taps = Taps(own, {STAGES} if of_stages else ())
    try:
        with torch.no_grad():
            found = taps(own.eval(), images)
    finally:
        taps.close()
        for module in trained:
            module.training = True
    spread = tuple(_spread(own, stage) for stage in (_after_the_stem(own) if of_stages else ()))
    stages = [tuple(features.shape[1:]) for features in found.stages]
    return FeatureShapes(tuple(stages), found.pooled.shape[1], spread)  # type: ignore[arg-type]


def _after_the_stem(network: nn.Module) -> list[Stage]:
    return list(stages_of(network).values())[1:]


def _spread(network: nn.Module, stage: Stage) -> tuple[Tensor, Tensor] | None:
    norm = network.get_submodule(stage.norm) if stage.norm else None
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if weight is None or bias is None:
        return None
    return bias.detach().clone(), weight.detach().abs()
