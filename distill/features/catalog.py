"""The methods that compare features, with their options and a paragraph on each. Imports no torch: `--help` reads it.

As in the losses' catalog a method is a class of options, and its module inherits from it. The published values are
those of megvii-research/mdistiller (configs/ and the defaults of its engine/cfg.py), which takes most from RepDistiller
(arXiv 1910.10699); where the paper has others the text says so.
"""

from dataclasses import InitVar, field
from typing import TYPE_CHECKING

from tailmatch.declare import Part, declares, flag, number, whole

if TYPE_CHECKING:
    from torch import Tensor

    from tailmatch.distill.features.base import FeatureShapes

FEATURE_METHODS: dict[str, Part] = {}
"""By name; see `build_feature_method`."""

WEIGHTS = {
    "fitnet": 100.0,
    "at": 1000.0,
    "sp": 3000.0,
    "rkd": 1.0,
    "pkt": 30000.0,
    "vid": 1.0,
    "nst": 50.0,
    "ofd": 0.001,
    "crd": 0.8,
    "reviewkd": 1.0,
}
"""What each weighs beside the cross-entropy with weight 1 where nothing is published for the pair of networks."""


@declares()
class FeatureOptions:
    """What every method is made from: the sizes of both networks' features."""

    student: InitVar["FeatureShapes"] = field(kw_only=False)
    teacher: InitVar["FeatureShapes"] = field(kw_only=False)


@declares(FEATURE_METHODS, "fitnet", "distill.features.fitnet:FitNet")
class FitNetOptions(FeatureOptions):
    """FitNets (arXiv 1412.6550): squared error between the teacher's features of one stage and a convolution of the
    student's. The paper trains the hint first and the rest afterwards; here, as in later tables, both together.
    """

    hint_stage: int = whole(2, "which stage's features are the hint, the first after the stem being 1")


@declares(FEATURE_METHODS, "at", "distill.features.at:AT")
class ATOptions(FeatureOptions):
    """Attention transfer (arXiv 1612.03928): squared error between the networks' maps of attention, the mean over the
    channels of the features' powers, scaled to length one, of every stage.
    """

    power: float = number(2.0, "power of the features in the maps of attention", excluded=0)


@declares(FEATURE_METHODS, "sp", "distill.features.sp:SP")
class SPOptions(FeatureOptions):
    """Similarity preserving (arXiv 1907.09682): squared error between the networks' similarities of the batch's images,
    by the last stage's features.
    """


@declares(FEATURE_METHODS, "rkd", "distill.features.rkd:RKD")
class RKDOptions(FeatureOptions):
    """Relational knowledge distillation (arXiv 1904.05068): distances between two images and angles between three,
    by the pooled features, are to be the teacher's.
    """

    distance_weight: float = number(25.0, "weight of the distances")
    angle_weight: float = number(50.0, "weight of the angles")


@declares(FEATURE_METHODS, "pkt", "distill.features.pkt:PKT")
class PKTOptions(FeatureOptions):
    """Probabilistic knowledge transfer (arXiv 1803.10837): KL between the networks' probabilities that two images of
    the batch are neighbours, by the cosines of the pooled features.
    """


@declares(FEATURE_METHODS, "vid", "distill.features.vid:VID")
class VIDOptions(FeatureOptions):
    """Variational information distillation (arXiv 1904.05835): likelihood of the teacher's features under a Gaussian
    whose mean is a small network of the student's, and whose variance is learnt for each channel.
    """

    initial_variance: float = number(5.0, "variance of the teacher's features at the start", excluded=0)


@declares(FEATURE_METHODS, "nst", "distill.features.nst:NST")
class NSTOptions(FeatureOptions):
    """Neuron selectivity transfer (arXiv 1707.01219): maximum mean discrepancy, with a squared kernel, between where
    the two networks' channels are active, of every stage.
    """


@declares(FEATURE_METHODS, "ofd", "distill.features.ofd:OFD")
class OFDOptions(FeatureOptions):
    """The overhaul of feature distillation (arXiv 1904.01866): squared error before the activation, with negative
    responses raised to their expected value and not asked for exactly.
    """


@declares(FEATURE_METHODS, "crd", "distill.features.crd:CRD")
class CRDOptions(FeatureOptions):
    """Contrastive representation distillation (arXiv 1910.10699): the embeddings of one image by both networks against
    those of many images of other classes, out of memories with a row for each training image.
    """

    train_labels: InitVar["Tensor"] = field(kw_only=False)
    embedding: int = whole(128, "size of the embeddings")
    negatives: int = whole(16384, "how many images each is told apart from")
    temperature: float = number(0.07, "temperature of the similarities", excluded=0)
    momentum: float = number(0.5, "what a step leaves of an image's row in the memories", high=1)


@declares(FEATURE_METHODS, "reviewkd", "distill.features.reviewkd:ReviewKD")
class ReviewKDOptions(FeatureOptions):
    """Knowledge review (arXiv 2104.09044): the student's stages, fused from the last to the first by attention, against
    the teacher's at several scales.
    """

    width: int = whole(512, "most channels of the fused features")
    before_activation: bool = flag(False, "take the student's features before their activation, as on ImageNet")
