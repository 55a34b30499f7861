"""Distilling knowledge via knowledge review: Chen et al. 2021, arXiv:2104.09044."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.distill.features.base import (
    PREACTIVATIONS,
    STAGES,
    Activations,
    FeatureMethod,
    FeatureShapes,
    aligned,
)
from tailmatch.distill.features.catalog import ReviewKDOptions

_SCALES = (4, 2, 1)  # sizes that features are averaged to


class ReviewKD(ReviewKDOptions, FeatureMethod):
    """sum over levels of the hierarchical context loss between the reviewed student and the teacher's pre-activations.

    The levels are the stages after the stem and the pooled features. From the last one to the first, each is fused with
    what came out of the level above.
    """

    looks_at = frozenset({STAGES, PREACTIVATIONS})

    def __post_init__(self, student: FeatureShapes, teacher: FeatureShapes) -> None:
        super().__post_init__(student, teacher)
        pairs = aligned(student.stages, teacher.stages)
        channels = [(s[0], t[0]) for s, t in pairs] + [(student.pooled, teacher.pooled)]
        width = min(self.width, student.pooled)
        last = len(channels) - 1
        self.fusions = nn.ModuleList(Fusion(*pair, width, level < last) for level, pair in enumerate(channels))

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        own = student.preactivations if self.before_activation else student.stages
        levels = aligned([*own, _as_map(student.pooled)], [*teacher.preactivations, _as_map(teacher.pooled)])
        losses, above = [], None
        for (s_BCHW, t_BCHW), fusion in zip(reversed(levels), reversed(self.fusions), strict=True):  # type: ignore[call-overload]
            made_BCHW, above = fusion(s_BCHW, above, t_BCHW.shape[2:])
            losses.append(context_loss(made_BCHW, t_BCHW))
        return torch.stack(losses).sum()


class Fusion(nn.Module):
    """Attention based fusion: a level's features joined with the level above, and brought to the teacher's channels."""

    def __init__(self, channels: int, wanted: int, width: int, joins: bool) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(channels, width, kernel_size=1, bias=False), nn.BatchNorm2d(width))
        widen = nn.Conv2d(width, wanted, kernel_size=3, padding=1, bias=False)
        self.widen = nn.Sequential(widen, nn.BatchNorm2d(wanted))
        self.attention = nn.Conv2d(2 * width, 2, kernel_size=1) if joins else None
        for convolution in (self.narrow[0], widen):
            nn.init.kaiming_uniform_(convolution.weight, a=1)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor, above: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Features like the teacher's of that size, and what goes on to the level below."""
        x_BCHW = self.narrow(x_BCHW)
        if self.attention is not None:
            assert above is not None, "only the last level has none above it"
            above = F.interpolate(above, x_BCHW.shape[2:], mode="nearest")
            share = self.attention(torch.cat([x_BCHW, above], dim=1)).sigmoid()
            x_BCHW = x_BCHW * share[:, :1] + above * share[:, 1:]
        if x_BCHW.shape[2:] != size:
            x_BCHW = F.interpolate(x_BCHW, size, mode="nearest")
        return self.widen(x_BCHW), x_BCHW


def context_loss(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Mean squared error at full size (weight 1) and averaged to 4, 2 and 1 (weights 1/2, 1/4, 1/8), over their sum.

    Sizes that the features do not exceed are left out.
    """
    weights, losses = [1.0], [F.mse_loss(student_BCHW, teacher_BCHW)]
    for size in _SCALES:
        if size < student_BCHW.shape[2]:
            small_student, small_teacher = (F.adaptive_avg_pool2d(x, size) for x in (student_BCHW, teacher_BCHW))
            losses.append(F.mse_loss(small_student, small_teacher))
            weights.append(weights[-1] / 2)
    return sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)  # type: ignore[return-value]


def _as_map(pooled_BD: Tensor) -> Tensor:
    return pooled_BD[:, :, None, None]
