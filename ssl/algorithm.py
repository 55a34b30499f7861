"""One step of semi-supervised learning, composed of interchangeable parts.

    targets      what the unlabelled images are taken to show, from the weak view
    acceptance   how much each of these pseudo-labels counts
    loss         how the strong view is pulled towards them

Shape suffixes: B labelled images, U = mu B unlabelled ones, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax

from ..engine.profile import Profile
from .batches import Batch


@dataclass
class PseudoLabels:
    """What a step took the unlabelled images to show."""

    labels: Tensor  # int64 [U]
    weight: Tensor  # float [U], 0 where rejected


class Supervised(nn.Module):
    """The labelled images alone: the baseline every other algorithm has to beat."""

    def synchronize(self) -> None:
        """Nothing is spread over processes."""

    def forward(
        self, model: nn.Module, batch: Batch, profile: Profile
    ) -> tuple[dict[str, Tensor], PseudoLabels | None]:
        with profile("forward"):
            logits_BC = model(batch.labeled)
        with profile("loss"):
            return {"supervised": cross_entropy(logits_BC, batch.labels)}, None


class Consistency(nn.Module):
    """FixMatch and its family (Sohn et al. 2020, algorithm 1)."""

    def __init__(self, acceptance: nn.Module, loss: nn.Module, unlabeled_weight: float) -> None:
        super().__init__()
        self.acceptance, self.loss, self.unlabeled_weight = acceptance, loss, unlabeled_weight

    def synchronize(self) -> None:
        self.loss.synchronize()

    def forward(
        self, model: nn.Module, batch: Batch, profile: Profile
    ) -> tuple[dict[str, Tensor], PseudoLabels | None]:
        with profile("forward"):
            # One forward of all views: each of them takes part in BatchNorm's statistics.
            views = torch.cat([batch.labeled, batch.weak, batch.strong])
            logits_BC, weak_UC, strong_UC = model(views).float().split([len(batch.labels), *[len(batch.weak)] * 2])
        with profile("loss"):
            supervised = cross_entropy(logits_BC, batch.labels)
            weak_UC = weak_UC.detach()
            pseudo = weak_UC.argmax(1)
            accepted = self.acceptance(softmax(weak_UC, 1))
            consistency = self.loss(strong_UC, weak_UC, pseudo, sample_weight=accepted)
            # The class means of IKL and GKL: labelled images by their labels, accepted ones by their pseudo-labels.
            self.loss.observe(logits_BC.detach(), batch.labels)
            self.loss.observe(weak_UC, pseudo, sample_weight=accepted)
        losses = {"supervised": supervised, "consistency": self.unlabeled_weight * consistency}
        return losses, PseudoLabels(pseudo, accepted)
