"""Which pseudo-labels to learn from: a weight in [0, 1] for every unlabelled image.

Each rule is a module, called once a step with the predictions of that step; its state, if any, is in its
`state_dict()` and equal on all processes. Rules that learn their threshold are in `adaptive_acceptance.py`.

Shape suffixes: U unlabelled images of a step, C classes.
"""

import torch
from torch import Tensor, nn

from tailmatch.engine.distributed import mean_over_processes
from tailmatch.ssl.predictions import Predictions


class Acceptance(nn.Module):
    """The base of all rules, and the simplest one: accept everything (Pi-Model, Mean Teacher)."""

    def forward(self, seen: Predictions) -> Tensor:
        """Weights [U]."""
        return torch.ones_like(seen.unlabeled[:, 0])

    def fairness(self, student_UC: Tensor, weight_U: Tensor) -> Tensor | None:
        """A further loss on the student's logits, where the rule comes with one."""
        return None

    def thresholds(self) -> Tensor | None:
        """The confidence that is asked for at present: one number, or one a class [C]; None where there is none."""
        return None


class FixedThreshold(Acceptance):
    """FixMatch: accept where the model is at least `threshold` sure (Sohn et al. 2020, equation 4)."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, seen: Predictions) -> Tensor:
        return (seen.unlabeled.amax(1) >= self.threshold).float()


class RelativeThreshold(Acceptance):
    """AdaMatch: `threshold` times the mean confidence on the step's labelled images (arXiv 2106.04732)."""

    last: Tensor

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.register_buffer("last", torch.tensor(threshold))

    def forward(self, seen: Predictions) -> Tensor:
        self.last.copy_(self.threshold * mean_over_processes(seen.labeled.amax(1).mean()))
        return (seen.unlabeled.amax(1) >= self.last).float()

    def thresholds(self) -> Tensor:
        return self.last


class DashThreshold(Acceptance):
    """Dash: accept where the loss against the pseudo-label, -log max p, is at most rho (arXiv 2109.00650).

    rho starts at C times the labelled images' mean loss over a first spell, in which nothing is accepted, and falls by
    1 / gamma nine epochs at a time down to 0.05, a confidence of 0.951. Published for 1,024 epochs (2^20 steps);
    shorter runs keep the shares.

    Sources differ. The spell is USB's 2,048 steps, after which USB takes rho from the evaluation set's loss and lets it
    fall every ten epochs; the authors' script accepts everything for ten epochs and takes rho from the unlabelled
    images' loss. Pseudo-labels are hard throughout; both others sharpen soft ones (T = 0.5) until rho is at its floor,
    and the authors divide by the number of accepted images.
    """

    C, GAMMA, SMALLEST_RHO = 1.0001, 1.27, 0.05
    FIRST_SPELL, BETWEEN_FALLS = 2 / 1024, 9 / 1024  # shares of the run

    first_loss: Tensor
    rho: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.first_spell = max(round(self.FIRST_SPELL * steps), 1)
        self.between_falls = max(self.BETWEEN_FALLS * steps, 1.0)
        self.register_buffer("first_loss", torch.zeros(()))
        self.register_buffer("rho", torch.zeros(()))

    def forward(self, seen: Predictions) -> Tensor:
        confidence_U = seen.unlabeled.amax(1)
        if seen.step < self.first_spell:
            of_labels = seen.labeled.gather(1, seen.labels[:, None]).clamp_min(1e-12).log()
            self.first_loss.sub_(mean_over_processes(of_labels.mean()) / self.first_spell)
            return torch.zeros_like(confidence_U)
        falls = int((seen.step - self.first_spell) / self.between_falls)
        self.rho.copy_((self.C * self.GAMMA**-falls * self.first_loss).clamp_min(self.SMALLEST_RHO))
        return (-confidence_U.clamp_min(1e-12).log() <= self.rho).float()

    def thresholds(self) -> Tensor:
        return torch.exp(-self.rho)
