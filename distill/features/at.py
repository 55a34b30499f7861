"""Attention transfer: Zagoruyko & Komodakis 2017, arXiv:1612.03928."""

import torch.nn.functional as F
from torch import Tensor

from tailmatch.distill.features.base import STAGES, Activations, FeatureMethod, aligned
from tailmatch.distill.features.catalog import ATOptions


class AT(ATOptions, FeatureMethod):
    """sum over stages of mean_bn (Q_s - Q_t)^2, Q the map of attention scaled to length one.

    The mean over the map's places n, as later tables have it; the paper takes the distance, so that its weight of
    1e3 / 2 is of another size.
    """

    looks_at = frozenset({STAGES})

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        pairs = (of_one_size(*pair) for pair in aligned(student.stages, teacher.stages))
        return sum((attention(s, self.power) - attention(t, self.power)).square().mean() for s, t in pairs)  # type: ignore[return-value]


def attention(features_BCHW: Tensor, power: float) -> Tensor:
    """[B, HW]: the mean of |features|^power over the channels, scaled to length one."""
    powers = features_BCHW.square() if power == 2 else features_BCHW.abs().pow(power)
    return F.normalize(powers.mean(1).flatten(1))


def of_one_size(student_BCHW: Tensor, teacher_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps, the larger one averaged down to the other's size."""
    (height, width), (wanted, wanted_width) = student_BCHW.shape[2:], teacher_BCHW.shape[2:]
    if height > wanted:
        return F.adaptive_avg_pool2d(student_BCHW, (wanted, wanted_width)), teacher_BCHW
    if height < wanted:
        return student_BCHW, F.adaptive_avg_pool2d(teacher_BCHW, (height, width))
    return student_BCHW, teacher_BCHW
