"""The second stages of decoupled training (Kang et al. 2020, arXiv 1910.09217): a trained network, another classifier.

Each is a function that gives a frozen model its classifier; `catalog.py` says what each needs and leaves. lws and
tau-norm need a linear classifier to start from: the lengths of a cosine one's weights say nothing.

Shape suffixes: B images, N all images of a split, C classes, D features.
"""

import torch
from torch import Tensor, nn

from tailmatch.distill.images import Images
from tailmatch.engine.evaluation import over_parts
from tailmatch.errors import UserError
from tailmatch.longtail.task import TrainedPart
from tailmatch.models.classifiers import ScaledLinear, replace_head
from tailmatch.models.feature_model import CosineLinear
from tailmatch.models.head import forward_with_features, head_of

TAUS = tuple(step / 20 for step in range(41))  # 0 ... 2: the paper searches 0 ... 1, small sets ask for more


def crt(model: nn.Module, batchnorm: str = "frozen") -> TrainedPart:
    """A classifier drawn anew."""
    return TrainedPart(modules=(replace_head(model, "linear"),), batchnorm=batchnorm == "train")


def lws(model: nn.Module, batchnorm: str = "frozen") -> TrainedPart:
    """The model's own classifier with a factor a class, which alone learns."""
    old = head_of(model)
    head = replace_head(model, "scaled")
    assert isinstance(head, ScaledLinear)
    with torch.no_grad():
        head.weight.copy_(old.weight)
        head.bias.copy_(torch.zeros_like(head.bias) if old.bias is None else old.bias)
    head.requires_grad_(False)
    head.scale.requires_grad_(True)
    return TrainedPart(modules=(head,), batchnorm=batchnorm == "train")


@torch.no_grad()
def tau_norm(model: nn.Module, images: Images, tau: float | None = None) -> TrainedPart:
    """w_c over |w_c|^tau, without bias (equation 10): frequent classes have longer weights, and lose them."""
    tau = best_tau(model, images) if tau is None else tau
    head = head_of(model)
    head.weight.div_(head.weight.norm(dim=1, keepdim=True).clamp_min(1e-12) ** tau)
    if head.bias is not None:
        head.bias.zero_()
    head.weight.requires_grad_(True)  # it takes no step, but an optimizer takes no empty list
    return TrainedPart(modules=(head,), notes={"tau": tau})


def best_tau(model: nn.Module, images: Images) -> float:
    """The power that is best on the validation images (the smallest of equals)."""
    if "val" not in images.labels:
        raise UserError(
            "--stage2 tau-norm chooses its power on validation images, and this data set has none; give --tau, or "
            "train the first stage with --val-fraction."
        )
    head = head_of(model)
    features_ND = over_parts(lambda part: forward_with_features(model.eval(), part)[1], images.split("val"))
    weight_CD, labels_N = head.weight.detach(), images.labels["val"]
    norms_C1 = weight_CD.norm(dim=1, keepdim=True).clamp_min(1e-12)

    def accuracy(tau: float) -> float:
        predictions_N = (features_ND @ (weight_CD / norms_C1**tau).T).argmax(1)
        return float(class_mean(predictions_N == labels_N, labels_N))

    return max(TAUS, key=accuracy)


def class_mean(right_N: Tensor, labels_N: Tensor) -> Tensor:
    """The mean of the classes' accuracies: validation images held out of a long tail are long-tailed themselves."""
    accuracies = torch.stack([right_N[labels_N == c].float().mean() for c in labels_N.unique()])
    return accuracies.mean()


@torch.no_grad()
def ncm(model: nn.Module, images: Images) -> TrainedPart:
    """The classifier whose weights are the mean training features; a class without images gets none (logit 0)."""
    features_ND = over_parts(lambda part: forward_with_features(model.eval(), part)[1], images.split("train"))
    labels_N = images.labels["train"]
    means_CD = torch.zeros(images.num_classes, features_ND.shape[1], device=features_ND.device)
    means_CD.index_add_(0, labels_N, features_ND)
    head = replace_head(model, "cosine")
    assert isinstance(head, CosineLinear)
    head.weight.copy_(means_CD / images.class_counts.to(means_CD).clamp_min(1).unsqueeze(1))
    return TrainedPart(modules=(head,))
