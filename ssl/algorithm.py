"""One step of semi-supervised learning, composed of interchangeable parts.

    teacher      who says what the unlabelled images show: the network itself, or its moving average
    alignment    what its pseudo-labels of all classes should look like together
    targets      how they are put: as one class, as a distribution, or as a sharpened one
    acceptance   how much each of them counts
    loss         how the student view is pulled towards them
    add-ons      what long tails need besides

Shape suffixes: B labelled images, U = mu B unlabelled ones, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax

from tailmatch.engine.profile import Profile
from tailmatch.errors import UserError
from tailmatch.losses.modules import CE, TeacherLoss
from tailmatch.models.head import forward_with_features
from tailmatch.ssl.acceptance import Acceptance
from tailmatch.ssl.add_on import AddOn
from tailmatch.ssl.alignment import Alignment
from tailmatch.ssl.batches import Batch
from tailmatch.ssl.predictions import Forward, PerView, Predictions, PseudoLabels
from tailmatch.ssl.targets import Hard

Losses = dict[str, Tensor]


class Supervised(nn.Module):
    """The labelled images alone: the baseline every other algorithm has to beat."""

    def __init__(self, add_ons: Sequence[AddOn] = ()) -> None:
        super().__init__()
        self.add_ons = tuple(add_ons)
        self.add_on_states = nn.ModuleList(add_ons)

    def synchronize(self) -> None:
        """Nothing is spread over processes."""

    def forward(
        self, model: nn.Module, batch: Batch, step: int, averaged: nn.Module | None, profile: Profile
    ) -> tuple[Losses, PseudoLabels | None]:
        with profile("forward"):
            logits_BC = model(batch.labeled)
        with profile("loss"):
            return {"supervised": supervised_loss(logits_BC.float(), batch.labels, self.add_ons)}, None


class Consistency(nn.Module):
    """FixMatch and its family (Sohn et al. 2020, algorithm 1)."""

    def __init__(
        self,
        *,
        loss: TeacherLoss,
        targets: nn.Module,
        acceptance: Acceptance,
        alignment: Alignment | None = None,
        teacher: str = "online",
        student_view: str = "strong",
        unlabeled_weight: float = 1.0,
        warmup_steps: float = 0.0,
        add_ons: Sequence[AddOn] = (),
    ) -> None:
        super().__init__()
        if isinstance(targets, Hard) and not isinstance(loss, CE):
            raise UserError(
                f"Hard targets are a class, and {type(loss).__name__} compares whole predictions; take Soft() targets, "
                f"or the loss CE()."
            )
        self.loss, self.targets, self.acceptance = loss, targets, acceptance
        self.alignment = alignment or Alignment()
        self.teacher, self.student_view = teacher, student_view
        self.unlabeled_weight, self.warmup_steps = unlabeled_weight, warmup_steps
        self.add_ons = tuple(add_ons)
        self.add_on_states = nn.ModuleList(add_ons)
        self.with_features = any(add_on.needs_features for add_on in add_ons)

    def synchronize(self) -> None:
        self.loss.synchronize()

    def forward(
        self, model: nn.Module, batch: Batch, step: int, averaged: nn.Module | None, profile: Profile
    ) -> tuple[Losses, PseudoLabels]:
        with profile("forward"):
            seen = self.look(model, batch, step, averaged)
        with profile("loss"):
            logits, labels = seen.logits, batch.labels
            pseudo = self.pseudo_labels(seen)
            weight = self.unlabeled_weight * self.ramp(step)
            losses = {
                "supervised": supervised_loss(logits.labeled, labels, self.add_ons),
                "consistency": weight
                * self.loss(logits.student, pseudo.target, pseudo.labels, sample_weight=pseudo.weight),
            }
            fairness = self.acceptance.fairness(logits.student, pseudo.weight)
            if fairness is not None:
                losses["fairness"] = fairness
            for add_on in self.add_ons:
                losses |= add_on.losses(seen, pseudo)
            # The class means of IKL and GKL: labelled images by their labels, accepted ones by their pseudo-labels.
            self.loss.observe(logits.labeled.detach(), labels)
            self.loss.observe(pseudo.target.detach(), pseudo.labels, sample_weight=pseudo.weight)
        return losses, pseudo

    def pseudo_labels(self, seen: Forward) -> PseudoLabels:
        """From the teacher's logits to what the student is to agree with, and how much."""
        target_UC, is_shifted = seen.logits.teacher, self.alignment.shifts_targets
        if is_shifted:
            target_UC = self.aligned(target_UC, seen)
        for add_on in self.add_ons:
            target_UC = add_on.refine(target_UC, seen)
        # Last, so that an image's weight is judged on the very prediction that its label is taken from.
        judged_UC = target_UC if is_shifted else self.aligned(target_UC, seen)
        weight_U = self.acceptance(predictions_of(judged_UC, seen))
        return PseudoLabels(target_UC.argmax(1), weight_U, self.targets(target_UC))

    def aligned(self, logits_UC: Tensor, seen: Forward) -> Tensor:
        """The logits after the alignment, whose running means have taken in what these predict."""
        self.alignment.observe(predictions_of(logits_UC, seen))
        shift_C = self.alignment.shift()
        return logits_UC if shift_C is None else logits_UC + shift_C

    def look(self, model: nn.Module, batch: Batch, step: int, averaged: nn.Module | None) -> Forward:
        """One forward of all views that the network itself sees, so that each takes part in BatchNorm's statistics."""
        online_teacher = self.teacher == "online"
        images = [batch.labeled, *([batch.weak] if online_teacher else [])]
        images += [] if self.student_view == "same" else [batch.student]
        sizes = [len(view) for view in images]
        outputs = [output.split(sizes) for output in self.outputs(model, torch.cat(images))]
        if not online_teacher:
            assert averaged is not None, "refused by the configuration's check: ema_decay 0 with --teacher average"
            with torch.no_grad():
                # With batch statistics, as its authors do. The statistics it keeps are copied from the network.
                taught = self.outputs(averaged.train(), batch.weak)
            outputs = [(labeled, teacher, student) for (labeled, student), teacher in zip(outputs, taught, strict=True)]
        if self.student_view == "same":
            outputs = [(labeled, weak.detach(), weak) for labeled, weak in outputs]
        parts = [PerView(*views) for views in outputs]
        features = parts.pop() if self.with_features else None
        balanced = parts[1] if len(parts) == 2 else None
        return Forward(batch, parts[0], features, balanced, averaged, step)

    def outputs(self, model: nn.Module, images: Tensor) -> list[Tensor]:
        """Logits; those of a second head where the model has one; features where an add-on asks for them."""
        if self.with_features:
            found, features = forward_with_features(model, images)
            more = [features.float()]
        else:
            found, more = model(images), []
        logits = found if isinstance(found, tuple) else (found,)
        return [*(output.float() for output in logits), *more]

    def ramp(self, step: int) -> float:
        """The consistency weight's rise from 0 to 1 at the beginning of the run."""
        return min(step / self.warmup_steps, 1.0) if self.warmup_steps else 1.0


def supervised_loss(logits_BC: Tensor, labels_B: Tensor, add_ons: Sequence[AddOn]) -> Tensor:
    """Cross-entropy of the labelled images, with what the add-ons have to say to their logits."""
    for add_on in add_ons:
        logits_BC = add_on.adjust(logits_BC)
    return cross_entropy(logits_BC, labels_B)


def predictions_of(logits_UC: Tensor, seen: Forward) -> Predictions:
    """What these logits say of the unlabelled images, beside what is known of the labelled ones."""
    return Predictions(
        unlabeled=softmax(logits_UC.detach(), 1),
        labeled=softmax(seen.logits.labeled.detach(), 1),
        labels=seen.batch.labels,
        index=seen.batch.index,
        step=seen.step,
    )
