"""The weights that a run evaluates and keeps: averaged over its steps or its latest, with statistics that fit them.

BatchNorm's running statistics follow the training at a pace of their own: FixMatch's networks take over a thousandth a
step. In a run of a few hundred steps they have hardly left their initial values, and they are never those of averaged
weights. There they are computed anew for each evaluation, from the present weights and a fixed sample of the training
images (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576, section 3). The sample is shown as
evaluations show images, without augmentation, since it is for these that the statistics are to be right.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tailmatch.engine.distributed import from_main_process
from tailmatch.engine.optim import WeightAverage
from tailmatch.engine.options import OptimOptions
from tailmatch.engine.seeding import generator
from tailmatch.errors import UserError

SAMPLE = 512
"""Training images that recomputed statistics are taken from, where there are as many."""
_AT_ONCE = 128
# A run outside these bounds is what published recipes are: long enough for its running means. Statistics that take
# over a share m of each step have a memory of 1 / m steps; with 50 of these in a run, 2.5 lie between two evaluations
# (a 20th of the run), which leaves 8 % of what was before. An average of decay d remembers 1 / (1 - d) steps; with 8
# of these, e^-8 of it is the untrained network at the end, and it lags by an eighth of the run.
_STATISTICS_MEMORIES, _AVERAGE_MEMORIES = 50, 8

Options = TypeVar("Options", bound=OptimOptions)


def settled(optim: Options, norms: Sequence[_BatchNorm], steps: int) -> Options:
    """The options with what was left open: it depends on the network and on the steps, known once images are read.

    Args:
        norms: the layers whose running statistics the training moves.
        steps: of the whole run.

    Raises:
        UserError: if statistics are to be recomputed, and there are none.
    """
    statistics, warmup = optim.batchnorm_statistics, optim.ema_warmup
    if statistics == "recomputed" and not norms:
        raise UserError(
            "--batchnorm-statistics recomputed has nothing to act on: this run moves no BatchNorm statistics; "
            "leave it out."
        )
    if statistics is None:
        slowest = min((norm.momentum or 0.0 for norm in norms), default=1.0)  # None: the mean over all steps
        statistics = "recomputed" if norms and steps * slowest < _STATISTICS_MEMORIES else "running"
    if warmup is None:
        warmup = optim.ema_decay > 0 and steps * (1 - optim.ema_decay) < _AVERAGE_MEMORIES
    return replace(optim, batchnorm_statistics=statistics, ema_warmup=warmup)


def described(optim: OptimOptions) -> dict[str, Any]:
    """What result.json says of the weights that were evaluated."""
    return {
        "averaged": optim.ema_decay > 0,
        "ema_decay": optim.ema_decay,
        "ema_warmup": optim.ema_warmup,
        "batchnorm_statistics": optim.batchnorm_statistics,
    }


def in_words(optim: OptimOptions) -> str:
    """The same for people."""
    rising = ", rising to it" if optim.ema_warmup else ""
    weights = f"averaged (decay {optim.ema_decay:g}{rising})" if optim.ema_decay else "the latest"
    recomputed = "recomputed for each evaluation" if optim.batchnorm_statistics == "recomputed" else "running"
    return f"{weights}; BatchNorm statistics {recomputed}"


def moving_norms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of a model that keep running statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def sample_indices(count: int, seed: int) -> Tensor:
    """int64 [at most SAMPLE]: which of `count` images statistics are taken from, always the same ones."""
    return torch.randperm(count, generator=generator(seed, "BatchNorm statistics"))[:SAMPLE]


def batches_of(indices: Tensor) -> tuple[Tensor, ...]:
    """The indices in batches of one size (but for one image), since each counts as much as the others."""
    return indices.tensor_split(max(-(-len(indices) // _AT_ONCE), 1))


@contextmanager
def recomputed_statistics(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Within, BatchNorm's statistics are means over these batches, the same on every process; behind it, as before."""
    norms = moving_norms(model.eval())
    before = {norm: torch.stack(_statistics_of(norm)) for norm in norms}
    try:
        for norm, found in _statistics_over(model, norms, batches).items():
            _put(norm, *from_main_process(found))
        yield
    finally:
        for norm, kept in before.items():
            _put(norm, *kept)


def _statistics_over(
    model: nn.Module, norms: Sequence[_BatchNorm], batches: Iterable[Tensor]
) -> dict[_BatchNorm, Tensor]:
    """[2, C] the mean and variance that each layer receives.

    The model stays in evaluation mode: each layer is given a batch's statistics just before it uses them. So layers
    that train in a way of their own, dropout and all the rest stay out of it.
    """
    found: dict[_BatchNorm, list[Tensor]] = {}

    def use_those_of_the_batch(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float()
        count = values.numel() // values.shape[1]
        variance, mean = torch.var_mean(values, [axis for axis in range(values.ndim) if axis != 1], correction=0)
        _put(norm, mean, variance)
        # As in training, a batch is normalised by its own variance, and an estimate of all images' is kept.
        found.setdefault(norm, []).append(torch.stack([mean, variance * (count / max(count - 1, 1))]))

    hooks = [norm.register_forward_pre_hook(use_those_of_the_batch) for norm in norms]
    try:
        with torch.no_grad():
            for images in batches:
                model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {norm: torch.stack(of_batches).mean(0) for norm, of_batches in found.items()}


def _statistics_of(norm: _BatchNorm) -> list[Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return [norm.running_mean, norm.running_var]


@torch.no_grad()
def _put(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    for own, new in zip(_statistics_of(norm), (mean, variance), strict=True):
        own.copy_(new)


class EvaluatedWeights:
    """Readies the model for evaluations, and leaves the training's own state alone.

    Args:
        model: the one that is trained.
        average: of its weights, where the run keeps one.
        sample: gives the images of recomputed statistics; None where the running ones are evaluated.
    """

    def __init__(
        self, model: nn.Module, average: WeightAverage | None, sample: Callable[[], Iterable[Tensor]] | None
    ) -> None:
        self.model, self.average, self.sample = model, average, sample

    @classmethod
    def of(cls, model: nn.Module, optim: OptimOptions, sample: Callable[[], Iterable[Tensor]]) -> "EvaluatedWeights":
        """As the options have it; one that was left open stands for what is published."""
        average = None
        if optim.ema_decay:
            average = WeightAverage(model, copy.deepcopy(model), optim.ema_decay, warmup=optim.ema_warmup is True)
        return cls(model, average, sample if optim.batchnorm_statistics == "recomputed" else None)

    @contextmanager
    def ready(self, *, online: bool = False) -> Iterator[nn.Module]:
        """The model that counts, to be evaluated and saved within; or the one that is trained, where that is another.

        To be entered on all processes together.
        """
        model = self.model if online or self.average is None else self.average.evaluated()
        with nullcontext() if self.sample is None else recomputed_statistics(model, self.sample()):
            yield model.eval()
