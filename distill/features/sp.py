"""Similarity-preserving knowledge distillation: Tung & Mori 2019, arXiv:1907.09682."""

import torch.nn.functional as F
from torch import Tensor

from tailmatch.distill.features.base import STAGES, Activations, FeatureMethod, aligned
from tailmatch.distill.features.catalog import SPOptions
from tailmatch.losses.collective import all_rows


class SP(SPOptions, FeatureMethod):
    """mean_bb' (G_s - G_t)^2, G the last stage's products between the batch's images, each row scaled to length one."""

    looks_at = frozenset({STAGES})

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        s_BCHW, t_BCHW = aligned(student.stages, teacher.stages)[-1]
        return (similarities(s_BCHW) - similarities(t_BCHW)).square().mean()


def similarities(features_BCHW: Tensor) -> Tensor:
    """This process's rows of the products between all images of the batch."""
    flat_BN = features_BCHW.flatten(1)
    return F.normalize(flat_BN @ all_rows(flat_BN).T)
