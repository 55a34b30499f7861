"""Probabilistic knowledge transfer: Passalis & Tefas 2018, arXiv:1803.10837."""

from torch import Tensor

from tailmatch.distill.features.base import Activations, FeatureMethod
from tailmatch.distill.features.catalog import PKTOptions
from tailmatch.losses.collective import all_rows

_LEAST = 1e-7


class PKT(PKTOptions, FeatureMethod):
    """mean_bb' q log(q / r), q and r the teacher's and the student's probability that b' is a neighbour of b.

    The probabilities are (cos + 1) / 2, scaled to sum to one over the batch. The mean over all pairs, as in the
    authors' code, where the paper has a sum.
    """

    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        q_BB, r_BB = neighbours(teacher.pooled), neighbours(student.pooled)
        return (q_BB * ((q_BB + _LEAST) / (r_BB + _LEAST)).log()).mean()


def neighbours(features_BD: Tensor) -> Tensor:
    """This process's rows of the probabilities."""
    unit_BD = features_BD / (features_BD.norm(dim=1, keepdim=True) + _LEAST)
    near_BB = (unit_BD @ all_rows(unit_BD).T + 1) / 2
    return near_BB / near_BB.sum(1, keepdim=True)
