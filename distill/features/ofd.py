"""A comprehensive overhaul of feature distillation: Heo et al. 2019, arXiv:1904.01866."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailmatch.distill.features.base import PREACTIVATIONS, Activations, FeatureMethod, FeatureShapes, aligned
from tailmatch.distill.features.catalog import OFDOptions
from tailmatch.errors import UserError

_RARE = 0.001  # where fewer responses than this are negative, their mean says little


class OFD(OFDOptions, FeatureMethod):
    """sum over the L stages of 2^(l - L) d(r(s), max(t, m)), before the activation.

    r is a 1x1 convolution with BatchNorm. m is the mean of each channel's negative responses, were they normal with the
    shift and scale of the teacher's last BatchNorm. d sums (s - t)^2 over channels and places where t > 0 or s > t: a
    negative response need only be reached from above. Mean over the batch.
    """

    looks_at = frozenset({PREACTIVATIONS})

    def __post_init__(self, student: FeatureShapes, teacher: FeatureShapes) -> None:
        super().__post_init__(student, teacher)
        widths = [(s[0], t[0]) for s, t in aligned(student.stages, teacher.stages)]
        self.connectors = nn.ModuleList(_connector(*pair) for pair in widths)
        for stage, spread in enumerate(teacher.spread[-len(widths) :]):
            if spread is None:
                raise UserError(
                    "OFD needs a BatchNorm before the last activation of each of the teacher's stages, and one of this "
                    "teacher's has none; take another teacher or method."
                )
            self.register_buffer(f"margin{stage}", negative_mean(*spread).view(1, -1, 1, 1), persistent=False)

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        pairs = aligned(student.preactivations, teacher.preactivations)
        losses = []
        for stage, ((s_BCHW, t_BCHW), connector) in enumerate(zip(pairs, self.connectors, strict=True)):
            s_BCHW = connector(s_BCHW)
            wanted_BCHW = F.adaptive_avg_pool2d(t_BCHW, s_BCHW.shape[2:]).maximum(self.get_buffer(f"margin{stage}"))
            counts = (wanted_BCHW > 0) | (s_BCHW > wanted_BCHW)
            loss = ((s_BCHW - wanted_BCHW).square() * counts).sum() / len(s_BCHW)
            losses.append(loss / 2 ** (len(pairs) - stage - 1))
        return torch.stack(losses).sum()


def negative_mean(mean_C: Tensor, deviation_C: Tensor) -> Tensor:
    """E[x | x < 0] of normal x: mean - deviation phi(mean / deviation) / Phi(-mean / deviation)."""
    z_C = mean_C.double() / deviation_C.double().clamp_min(1e-30)
    below_C = torch.special.ndtr(-z_C)
    density_C = (-z_C.square() / 2).exp() / math.sqrt(2 * math.pi)
    expected_C = mean_C - deviation_C * density_C / below_C.clamp_min(1e-30)
    return torch.where(below_C > _RARE, expected_C, -3 * deviation_C).to(mean_C.dtype)


def _connector(width: int, wanted: int) -> nn.Sequential:
    convolution = nn.Conv2d(width, wanted, kernel_size=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(wanted))
