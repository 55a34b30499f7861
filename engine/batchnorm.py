"""Over which images BatchNorm takes its statistics while it trains: `--batchnorm`.

    synchronized   the whole batch of all processes: N processes train as one (the default under torchrun)
    per-process    this process's part of the batch, as most published runs on several GPUs did without saying so
    chunks:N       N parts of the whole batch apart, however many processes share it: one GPU has the statistics of N

Published batch sizes are often over several GPUs, and the statistics then of a part: with other statistics gradients
of the same images differ widely, so a recipe has to say which.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tailmatch.engine.distributed import sum_with_gradient
from tailmatch.engine.options import batchnorm_chunks
from tailmatch.errors import UserError


def with_batchnorm(model: nn.Module, statistics: str, processes: int) -> nn.Module:
    """The model with every BatchNorm taking its statistics as asked for; parameters and names stay as they are."""
    chunks = batchnorm_chunks(statistics)
    if chunks is not None and chunks % processes:
        raise UserError(f"--batchnorm {statistics} cannot be shared by {processes} processes; start 1 or {chunks}.")
    if statistics == "per-process" or chunks == processes or (chunks is None and processes == 1):
        return model
    _refuse_what_does_more(model, statistics)
    if chunks is not None:
        return _replaced(model, ChunkedBatchNorm, chunks // processes)
    if any(parameter.is_cuda for parameter in model.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return _replaced(model, SynchronizedBatchNorm)


class _BatchNormOfParts(_BatchNorm):
    """BatchNorm whose statistics are taken in a way of its own while it trains, and as usual in evaluation."""

    def __init__(self, like: _BatchNorm) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected [B, C, ...], got {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        assert self.momentum is not None, "cumulative averages are not supported"
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return self.normalized(input, self.momentum)

    def normalized(self, input: Tensor, momentum: float) -> Tensor:
        raise NotImplementedError  # pragma: no cover  (the two classes below)


class ChunkedBatchNorm(_BatchNormOfParts):
    """Every N-th image together, as processes share a batch; the kept statistics are the first chunk's, as theirs."""

    def __init__(self, like: _BatchNorm, chunks: int) -> None:
        super().__init__(like)
        self.chunks = chunks

    def normalized(self, input: Tensor, momentum: float) -> Tensor:
        size, channels = input.shape[:2]
        if size % self.chunks:
            raise UserError(
                f"BatchNorm over {self.chunks} chunks needs batches that divide by {self.chunks}, got one of {size} "
                "images; choose --batch-size so."
            )
        # [B, C, ...] is [B / N, N, C, ...] with the chunk as second axis: one call normalises N C channels apart.
        apart = input.reshape(size // self.chunks, self.chunks * channels, *input.shape[2:])
        mean, variance, weight, bias = (
            None if value is None else value.repeat(self.chunks)
            for value in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        found = F.batch_norm(apart, mean, variance, weight, bias, True, momentum, self.eps)
        if mean is not None and variance is not None and self.running_mean is not None:
            self.running_mean.copy_(mean[:channels])
            self.running_var.copy_(variance[:channels])  # type: ignore[union-attr]
        return found.reshape(input.shape)


class SynchronizedBatchNorm(_BatchNormOfParts):
    """Mean and variance of all processes' images; torch's own does this on CUDA alone."""

    def normalized(self, input: Tensor, momentum: float) -> Tensor:
        over = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums = sum_with_gradient(torch.cat([values.sum(over), count]))
        total = sums[-1].detach()
        mean_C = sums[:-1] / total
        centred = values - mean_C.view(shape)
        variance_C = sum_with_gradient(centred.square().sum(over)) / total
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean_C, momentum)
                self.running_var.lerp_(variance_C * (total / (total - 1)), momentum)
        found = centred * (variance_C + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(input.dtype)


def _refuse_what_does_more(model: nn.Module, statistics: str) -> None:
    """A layer that activates as well, say, would lose this when it is replaced, without a word."""
    for name, module in model.named_modules():
        kind = type(module)
        known = (_BatchNorm.forward, nn.SyncBatchNorm.forward, _BatchNormOfParts.forward)
        if isinstance(module, _BatchNorm) and kind.forward not in known:
            raise UserError(
                f"--batchnorm {statistics} replaces the network's BatchNorm layers, and {name or 'it'} "
                f"({kind.__name__}) does more than normalise; take --batchnorm per-process."
            )


def _replaced(model: nn.Module, kind: Callable[..., _BatchNormOfParts], *options: int) -> nn.Module:
    for name, module in list(model.named_modules()):
        if isinstance(module, _BatchNorm) and not isinstance(module, _BatchNormOfParts):
            new = kind(module, *options).train(module.training)
            for own, value in (*module.named_parameters(), *module.named_buffers()):
                setattr(new, own, value)  # the very same, with what hangs on it
            if not name:
                return new
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new)
    return model
