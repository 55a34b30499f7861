"""A model's classifier, and the features it receives: for any model, without asking anything of its code."""

from typing import Any

from torch import Tensor, nn

from tailmatch.errors import UserError

# What networks call their classifier, in torchvision, timm and research code. A name is asked for before position:
# a model may register further linear layers (a rotation or projection head) after its classifier.
_USUAL_NAMES = ("fc", "classifier", "head", "heads", "linear", "output")
_WRAPPED = {"module", "_orig_mod"}  # DistributedDataParallel and DataParallel; torch.compile


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own model inside DistributedDataParallel and torch.compile, in whatever order they wrap it."""
    children = dict(model.named_children())
    if len(children) == 1 and (wrapped := children.keys() & _WRAPPED):
        return unwrapped(children[wrapped.pop()])
    return model


def head_of(model: nn.Module) -> nn.Linear:
    """The linear classifier: the last linear layer under one of the usual names, else the last one of the model.

    Raises UserError for a model without a linear layer.
    """
    own = unwrapped(model)
    children = dict(own.named_children())
    candidates = [_last_linear(children[name]) for name in _USUAL_NAMES if name in children]
    found = next((layer for layer in (*candidates, _last_linear(own)) if layer is not None), None)
    if found is None:
        raise UserError(
            f"{type(own).__name__} has no torch.nn.Linear that could be its classifier: "
            f"end the model in one (called 'fc', 'classifier' or 'head' where it is not the last of several)."
        )
    return found


def forward_with_features(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """One forward pass that returns the logits [B, C] and the classifier's input [B, D], both with their gradient.

    Works through DistributedDataParallel (whose own forward runs, as its gradient reduction needs) and torch.compile.
    A compiled model must be called this way from its first forward in training mode on: a graph traced without the
    hook is not traced again for it.
    """
    received: list[Tensor] = []

    def keep(_head: nn.Module, inputs: tuple[Any, ...]) -> None:
        received.append(inputs[0])

    head = head_of(model)
    hook = head.register_forward_pre_hook(keep)
    try:
        logits_BC = model(x)
    finally:
        hook.remove()
    if len(received) != 1:
        raise UserError(
            f"The classifier of {type(unwrapped(model)).__name__} ran {len(received)} times in one forward instead of "
            f"once, so its features are unknown. If the model is compiled, call forward_with_features before any plain "
            f"forward; if its classifier is not the layer {head}, name it 'fc'."
        )
    return logits_BC, received[0]


def _last_linear(module: nn.Module) -> nn.Linear | None:
    return next((layer for layer in reversed(list(module.modules())) if isinstance(layer, nn.Linear)), None)
