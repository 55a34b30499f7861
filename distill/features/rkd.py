"""Relational knowledge distillation: Park et al. 2019, arXiv:1904.05068."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tailmatch.distill.features.base import Activations, FeatureMethod
from tailmatch.distill.features.catalog import RKDOptions
from tailmatch.losses.collective import all_rows, own_rows

_LEAST = 1e-12  # of a squared distance: a root has no gradient at zero


class RKD(RKDOptions, FeatureMethod):
    """w_d mean_ij h(d_s, d_t) + w_a mean_ijk h(cos_s, cos_t), h the Huber loss (`smooth_l1_loss`).

    d_ij is the distance between the pooled features of images i and j over the batch's mean distance, cos_ijk the
    cosine of the angle at image i between images j and k.
    """

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        far = F.smooth_l1_loss(distances(student.pooled), distances(teacher.pooled))
        bent = F.smooth_l1_loss(cosines(student.pooled), cosines(teacher.pooled))
        return self.distance_weight * far + self.angle_weight * bent


def distances(features_BD: Tensor) -> Tensor:
    """This process's rows of the distances between all images, over their mean."""
    all_BD = all_rows(features_BD)
    squares_B = all_BD.square().sum(1)
    squared_BB = squares_B[:, None] + squares_B[None, :] - 2 * all_BD @ all_BD.T
    far_BB = squared_BB.clamp_min(_LEAST).sqrt()
    far_BB = far_BB * (1 - torch.eye(len(far_BB), dtype=far_BB.dtype, device=far_BB.device))
    return own_rows(far_BB / (far_BB.sum() / max(len(far_BB) * (len(far_BB) - 1), 1)))


def cosines(features_BD: Tensor) -> Tensor:
    """[B, B', B']: at each of this process's images, of the angles between all others."""
    towards = F.normalize(all_rows(features_BD)[None, :, :] - features_BD[:, None, :], dim=2)
    return towards @ towards.transpose(1, 2)
