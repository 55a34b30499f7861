"""What is published for pairs of networks, and filled in where an option is left out.

Free of torch, since the configuration is resolved before anything is built. `label_weight`, `kd_weight` and
`kd_warmup_epochs` are the step's, the rest the method's own options.

Sources: mdistiller (megvii-research/mdistiller, configs/ and the defaults of its engine/cfg.py) for KD, DKD
(arXiv 2203.08679) and, with the weights that `features/catalog.py` has, the methods that compare features;
dvlab-research/ReviewKD for its own on CIFAR-100; arXiv 2205.10536 for DIST; jiequancui/DKL for IKL (arXiv 2305.13948,
DKLv1/KD-dkl/configs) and GKL (arXiv 2503.08038, DKLv2/KD-dkl);
sunshangquan/logit-standardization-KD for logit standardisation (arXiv 2403.01427).
"""

from collections.abc import Mapping
from typing import Any

from tailmatch.distill.catalog import METHODS

Constants = Mapping[str, Any]
Pair = Mapping[str, Constants]


def _cifar(
    ikl: tuple[float, float],
    gkl: tuple[float, float, float, str],
    dkd: float,
    standardised: tuple[float, float] = (2.0, 9.0),
    review: float = 5.0,
) -> Pair:
    """CIFAR-100: every loss at T = 4, the weight of the decoupled ones rising over 20 epochs.

    Args:
        ikl: alpha, beta; the weights of pairs of classes are softmax(t / 100) of the sample.
        gkl: alpha, beta, gamma, and whose prediction weighs: the sample's or its class's, at T_w = 4.
        dkd: beta.
        standardised: T and the weight of KD between standardised logits (the last run that its authors' logs name).
        review: weight of ReviewKD, as its authors' scripts have it; for pairs without one mdistiller's.
    """
    risen = {"label_weight": 1.0, "kd_weight": 1.0, "kd_warmup_epochs": 20.0, "temperature": 4.0}
    temperature, weight = standardised
    return {
        "dkd": {**risen, "alpha": 1.0, "beta": dkd},
        # Beside a frozen teacher DKL's second term trains nothing: its constants are IKL's.
        "dkl": {**risen, "alpha": ikl[0], "beta": ikl[1]},
        "ikl": {**risen, "alpha": ikl[0], "beta": ikl[1], "weights": "sample", "weight_temperature": 100.0},
        "gkl": {
            **risen,
            **{"alpha": gkl[0], "beta": gkl[1], "gamma": gkl[2], "weights": gkl[3], "weight_temperature": 4.0},
        },
        "kd, standardised": {"label_weight": 0.1, "kd_weight": weight, "temperature": temperature},
        "reviewkd": {"kd_weight": review, "kd_warmup_epochs": 20.0},
    }


def _imagenet(alpha: float, beta: float, gamma: float, dkd: float, **features: Constants) -> Pair:
    """ImageNet: T = 1, class means, no warm-up but GKL's."""
    whole = {"label_weight": 1.0, "kd_weight": 1.0, "temperature": 1.0}
    of_class = {"alpha": alpha, "beta": beta, "weights": "class", "weight_temperature": 1.0}
    return {
        "kd": {"label_weight": 0.5, "kd_weight": 0.5, "temperature": 1.0},
        "dkd": {**whole, "alpha": 1.0, "beta": dkd},
        "dkl": {**whole, "alpha": alpha, "beta": beta},
        "ikl": {**whole, **of_class},
        "gkl": {**whole, **of_class, "gamma": gamma, "kd_warmup_epochs": 5.0},
        **features,
    }


PAIRS: dict[str, dict[tuple[str, str], Pair]] = {
    "cifar100": {
        ("resnet56", "resnet20"): _cifar((1, 4), (1, 4, 0.2, "class"), 2, review=0.6),
        ("resnet110", "resnet32"): _cifar((1, 12), (1, 4, 0.1, "sample"), 2, review=1),
        ("resnet32x4", "resnet8x4"): _cifar((1, 8), (1, 16, 0.05, "class"), 8),
        ("wrn-40-2-relu", "wrn-16-2-relu"): _cifar((3, 12), (3, 20, 0.3, "sample"), 6),
        ("wrn-40-2-relu", "wrn-40-1-relu"): _cifar((1, 8), (1, 12, 0.3, "sample"), 6),
        ("vgg13", "vgg8"): _cifar((1, 12), (1, 8, 0.2, "class"), 6, standardised=(3, 9)),
        ("resnet32x4", "shufflenet_v1"): _cifar((1, 8), (1, 8, 0.0, "class"), 8),
        ("wrn-40-2-relu", "shufflenet_v1"): _cifar((1, 4), (1, 8, 0.0, "sample"), 8),
        ("vgg13", "mobilenet_v2-half"): _cifar((4, 12), (4, 12, 0.1, "class"), 6, standardised=(3, 9)),
        ("resnet50-cifar", "mobilenet_v2-half"): _cifar((1, 12), (1, 8, 0.05, "class"), 8, standardised=(3, 1)),
        ("resnet32x4", "shufflenet_v2"): _cifar((3, 12), (3, 12, 0.1, "class"), 8, review=8),
    },
    "imagenet": {
        ("resnet34", "resnet18"): _imagenet(1, 0.5, 0.6, 0.5, reviewkd={"kd_weight": 1.0, "before_activation": True}),
        ("resnet50", "mobilenet_v1"): _imagenet(
            4,
            1,
            0.5,
            2,
            ofd={"kd_weight": 1e-4},
            # The configuration names a width of 256 too, which its code does not read.
            reviewkd={"kd_weight": 8.0, "before_activation": True},
        ),
    },
}
"""By data set and (teacher, student)."""

OF_ANY_PAIR: dict[str, Pair] = {
    "cifar100": {
        "kd": {"label_weight": 0.1, "kd_weight": 0.9, "temperature": 4.0},
        "kd, standardised": {"label_weight": 0.1, "kd_weight": 9.0, "temperature": 2.0},
        "dist": {"kd_weight": 2.0, "temperature": 4.0},
    },
    "imagenet": {"dist": {"kd_weight": 2.0, "temperature": 1.0}},
}
"""By data set, what is the same for every pair."""


def published(dataset: str, teacher: str | None, student: str, method: str, standardised: bool) -> dict[str, Any]:
    """The constants of a method for a pair; empty where nothing is published.

    Args:
        standardised: whether the logits are; only KD has constants of its own for them, others keep theirs.
    """
    of_pair = PAIRS.get(dataset, {}).get((str(teacher), student), {})
    of_any = OF_ANY_PAIR.get(dataset, {})
    for name in [f"{method}, standardised"] * standardised + [method]:
        for table in (of_pair, of_any):
            if name in table:
                options = METHODS[method].options
                kinds = {option: options[option].kind if option in options else float for option in table[name]}
                return {option: kinds[option](value) for option, value in table[name].items()}
    return {}
