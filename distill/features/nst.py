"""Neuron selectivity transfer: Huang & Wang 2017, arXiv:1707.01219."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmatch.distill.features.at import of_one_size
from tailmatch.distill.features.base import STAGES, Activations, FeatureMethod, aligned
from tailmatch.distill.features.catalog import NSTOptions


class NST(NSTOptions, FeatureMethod):
    """sum over stages of the squared maximum mean discrepancy between both networks' channels.

    A channel is its map over the N = HW places, scaled to length one; the kernel is k(x, y) = (x . y)^2:

        mean_ij k(t_i, t_j) + mean_ij k(s_i, s_j) - 2 mean_ij k(s_i, t_j) = || mean_i t_i t_i^T - mean_i s_i s_i^T ||^2

    The right-hand form compares N x N matrices, whatever the numbers of channels; it is taken where that is smaller.
    """

    looks_at = frozenset({STAGES})

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        pairs = [of_one_size(*pair) for pair in aligned(student.stages, teacher.stages)]
        return torch.stack([discrepancy(_channels(s), _channels(t)) for s, t in pairs]).sum()


def discrepancy(s_BCN: Tensor, t_BCN: Tensor) -> Tensor:
    """The mean over the batch; the two may have unlike numbers of channels."""
    if s_BCN.shape[2] <= max(s_BCN.shape[1], t_BCN.shape[1]):
        apart_BNN = _places(t_BCN) - _places(s_BCN)
        return apart_BNN.square().sum((1, 2)).mean()
    return _kernel(t_BCN, t_BCN) + _kernel(s_BCN, s_BCN) - 2 * _kernel(s_BCN, t_BCN)


def _channels(features_BCHW: Tensor) -> Tensor:
    return F.normalize(features_BCHW.flatten(2), dim=2)


def _places(channels_BCN: Tensor) -> Tensor:
    return channels_BCN.transpose(1, 2) @ channels_BCN / channels_BCN.shape[1]


def _kernel(one_BCN: Tensor, other_BCN: Tensor) -> Tensor:
    return (one_BCN @ other_BCN.transpose(1, 2)).square().mean()
