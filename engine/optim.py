"""Optimizers, with weight decay where it belongs: on matrices and kernels, not on biases and normalisation."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tailmatch.engine.options import OptimOptions

_FACTOR = "rate_factor"


def decay_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, decay_all: bool = False
) -> list[dict[str, object]]:
    """Two groups: tensors with two or more axes decay; biases and normalisation's scales and shifts do not.

    With `decay_all` there is one group, and all of it decays.
    """
    trainable = [p for p in parameters if p.requires_grad]
    if decay_all:
        return [{"params": trainable, "weight_decay": weight_decay}]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class _Eager(torch.optim.Optimizer):
    """An optimizer that never asks for torch's compiler, whose import is a third of the start of a run on the CPU.

    torch's own ask for it on their first calls, to mark what must not be compiled (torch/_compile.py, which keeps the
    marked function as an attribute) and around each step. Nothing here compiles a step of an optimizer.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        for method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
            unmarked = inspect.unwrap(getattr(torch.optim.Optimizer, method))
            vars(unmarked).setdefault("__dynamo_disable", unmarked)
        super().__init__(*args, **options)


class SGD(_Eager, torch.optim.SGD):
    step: Callable[..., Any] = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(_Eager, torch.optim.AdamW):
    step: Callable[..., Any] = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def build_optimizer(
    parameters: Iterable[nn.Parameter], options: OptimOptions, rate_factors: Mapping[nn.Parameter, float] | None = None
) -> torch.optim.Optimizer:
    """The optimizer that the options name, one fused kernel a group where the device has one.

    Args:
        rate_factors: of the parameters that learn at another rate than the others, its share of theirs.
    """
    by_factor: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_factor.setdefault((rate_factors or {}).get(parameter, 1.0), []).append(parameter)
    groups = [
        group | {_FACTOR: factor}
        for factor, members in by_factor.items()
        for group in decay_groups(members, options.weight_decay, options.decay_all)
    ]
    devices = {p.device.type for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    fused = devices <= {"cpu", "cuda"}
    optimizer: torch.optim.Optimizer
    if options.optimizer == "adamw":
        optimizer = AdamW(groups, lr=options.lr, betas=(options.momentum, 0.999), fused=fused)
    else:
        nesterov = options.nesterov and options.momentum > 0
        optimizer = SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=nesterov, fused=fused)
    optimizer.register_load_state_dict_pre_hook(_refuse_other_groups)
    optimizer.register_load_state_dict_post_hook(_lay_out_state)
    return optimizer


def _refuse_other_groups(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Raises ValueError for the state of an optimizer with other options; torch takes any and breaks a step later."""
    if len(state["param_groups"]) != len(optimizer.param_groups):
        raise ValueError("their optimizer has other groups of parameters")
    for own, found in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for name in own.keys() & found.keys() - {"params", "lr"}:
            value = tuple(found[name]) if isinstance(own[name], tuple) else found[name]  # JSON has no tuples
            if value != own[name]:
                raise ValueError(f"their optimizer has another {name}: {value}")


def _lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Bring loaded state into its parameter's memory order (a checkpoint knows none).

    The fused kernels walk parameter and momentum in the order they lie in memory: where one is channels-last and the
    other is not, they combine numbers that do not belong together, without an error.

    Raises:
        ValueError: for state of another parameter.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not isinstance(value, Tensor) or value.shape not in (parameter.shape, ()):
                raise ValueError(f"their optimizer's {name} fits no parameter")
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1.0)  # older checkpoints have none


class WeightAverage:
    """The exponential moving average of a model's weights, and the model to evaluate that carries it.

    Trainable parameters are averaged in one fused update over all tensors. BatchNorm's running statistics are not:
    they are averages already and are copied live from the online model when the averaged model is asked for.

    With `warmup` the decay at step t is min(decay, (1 + t) / (10 + t)), as TensorFlow's moving average has it: until
    the decay is reached the average covers about the last tenth of the steps so far, and soon forgets the untrained
    weights that it begins with.
    """

    def __init__(self, model: nn.Module, averaged_model: nn.Module, decay: float, *, warmup: bool = False) -> None:
        self.decay, self.warmup = decay, warmup
        self.model, self.averaged_model = model, averaged_model.requires_grad_(False).eval()
        self._online = [p.detach() for p in model.parameters()]
        self._average = [p.detach() for p in averaged_model.parameters()]
        self.averaged_model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step (counted from 0)."""
        torch._foreach_lerp_(self._average, self._online, 1 - self.decay_at(step))

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def evaluated(self) -> nn.Module:
        """The averaged model, its buffers brought up to date."""
        for average, online in zip(self.averaged_model.buffers(), self.model.buffers(), strict=True):
            average.copy_(online)
        return self.averaged_model

    def state_dict(self) -> dict[str, Tensor]:
        return self.averaged_model.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.averaged_model.load_state_dict(state)
