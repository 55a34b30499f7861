"""Variational information distillation: Ahn et al. 2019, arXiv:1904.05835."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.distill.features.at import of_one_size
from tailmatch.distill.features.base import STAGES, Activations, FeatureMethod, FeatureShapes, aligned
from tailmatch.distill.features.catalog import VIDOptions

_LEAST = 1e-5  # of a variance


class VID(VIDOptions, FeatureMethod):
    """sum over stages of mean ((mu(s) - t)^2 / v + log v) / 2: -log N(t; mu(s), v), but for a constant.

    mu is three 1x1 convolutions with ReLU between them, v = softplus(rho) + 1e-5 one number a channel, learnt as in the
    paper.
    """

    looks_at = frozenset({STAGES})

    def __post_init__(self, student: FeatureShapes, teacher: FeatureShapes) -> None:
        super().__post_init__(student, teacher)
        widths = [(s[0], t[0]) for s, t in aligned(student.stages, teacher.stages)]
        self.regressors = nn.ModuleList(_regressor(*pair) for pair in widths)
        start = math.log(math.expm1(self.initial_variance - _LEAST))
        self.rho = nn.ParameterList(nn.Parameter(torch.full((width,), start)) for _, width in widths)

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        pairs = [of_one_size(*pair) for pair in aligned(student.stages, teacher.stages)]
        losses = []
        for (s_BCHW, t_BCHW), regressor, rho in zip(pairs, self.regressors, self.rho, strict=True):
            variance = (F.softplus(rho) + _LEAST).view(1, -1, 1, 1)
            losses.append(0.5 * ((regressor(s_BCHW) - t_BCHW).square() / variance + variance.log()).mean())
        return torch.stack(losses).sum()


def _regressor(width: int, wanted: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, wanted, kernel_size=1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(wanted, wanted, kernel_size=1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(wanted, wanted, kernel_size=1, bias=False),
    )
