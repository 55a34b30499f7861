"""The names `build_model` knows, with a line on each. Free of torch, so that `--help` can list them at once."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from tailmatch.declare import Part, number
from tailmatch.errors import UserError, unknown_name

WIDE_RESNETS = {
    "wrn-digits": "WRN-10-1 for 8x8 grayscale digits, 0.08M parameters, made for CPUs",
    "wrn-16-1": "0.17M parameters",
    "wrn-16-2": "0.69M parameters",
    "wrn-28-2": "FixMatch's network for CIFAR-10 and SVHN, 1.47M parameters",
    "wrn-28-8": "FixMatch's network for CIFAR-100, 23.4M parameters",
    "wrn-37-2": "for STL-10 as TorchSSL and USB build it: 28-2 with a fourth, wider group, 5.93M parameters",
    "wrn-40-1": "0.56M parameters",
    "wrn-40-2": "2.24M parameters",
}
CIFAR_RESNETS = {
    "resnet8": "for 32x32 images, 0.08M parameters",
    "resnet14": "for 32x32 images, 0.18M parameters",
    "resnet20": "for 32x32 images (He et al. 2016, section 4.2), 0.27M parameters",
    "resnet32": "for 32x32 images, 0.47M parameters, as in distillation (1x1 convolutions as shortcuts)",
    "resnet32-a": "for 32x32 images, 0.46M parameters, CIFAR-LT's: shortcuts without parameters, drawn by fan-in",
    "resnet44": "for 32x32 images, 0.66M parameters",
    "resnet56": "for 32x32 images, 0.85M parameters",
    "resnet110": "for 32x32 images, 1.73M parameters",
    "resnet8x4": "ResNet-8 for 32x32 images, four times as wide, 1.21M parameters",
    "resnet32x4": "ResNet-32 for 32x32 images, four times as wide, 7.41M parameters",
}
OTHER_CIFAR_MODELS = {
    "vgg8": "for 32x32 images, with BatchNorm and one linear layer, 3.97M parameters with 100 classes",
    "vgg13": "for 32x32 images, likewise, 9.46M",
    "mobilenet_v2-half": "for 32x32 images, half as wide: MobileNetV2 in tables of distillation on CIFAR, 0.81M",
    "shufflenet_v1": "for 32x32 images: ShuffleV1 in tables of distillation on CIFAR, 0.95M",
    "shufflenet_v2": "for 32x32 images: ShuffleV2 there, 1.36M",
}
TORCHVISION_MODELS = {
    "resnet10": "torchvision's ResNet class with a block a group, the small network of ImageNet-LT, 5.4M parameters",
    "resnet18": "torchvision's, 11.7M parameters with 1000 classes",
    "resnet34": "torchvision's, 21.8M",
    "resnet50": "torchvision's, 25.6M",
    "resnet101": "torchvision's, 44.5M",
    "resnet152": "torchvision's, 60.2M",
    "resnext50_32x4d": "torchvision's, 25.0M",
    "resnext101_32x4d": "torchvision's ResNet class in the shape of the usual ImageNet-LT teacher, 44.2M",
    "resnext101_32x8d": "torchvision's, 88.8M",
    "resnext101_64x4d": "torchvision's, 83.5M",
    "wide_resnet50_2": "torchvision's, 68.9M",
    "wide_resnet101_2": "torchvision's, 126.9M",
    "mobilenet_v2": "torchvision's, 3.5M",
    "mobilenet_v3_small": "torchvision's, 2.5M",
    "mobilenet_v3_large": "torchvision's, 5.5M",
}
OTHER_MODELS = {
    "cnn-digits": "four convolutions for 8x8 grayscale digits, 0.07M parameters, made for CPUs",
    "mobilenet_v1": "MobileNet (Howard et al. 2017), ResNet's usual partner in distillation on ImageNet, 4.2M",
}
MODELS = WIDE_RESNETS | CIFAR_RESNETS | OTHER_CIFAR_MODELS | TORCHVISION_MODELS | OTHER_MODELS

COSINE = "cosine"
FEATURE_MODELS = {
    "linear": "a linear classifier of stored features (--dataset store)",
    COSINE: "the same by directions, whatever their lengths, as --head cosine makes it",
    "mlp-<width>": "a hidden layer with ReLU between them, as in mlp-512",
    "mlp-<width>x<depth>": "several, as in mlp-512x2",
}
"""What features are classified with; all others take images."""
COSINE_SCALE = 30.0
"""LDAM's factor on the logits of its cosine classifier (arXiv 1906.07413); plain cosines lie between -1 and 1."""


@dataclass(frozen=True, kw_only=True)
class Head(Part):
    """A classifier: a class of `in_features`, `out_features` and its options."""

    on_request: bool = True
    """Whether a run can be trained with it (`--head`); others are what a second stage makes."""


HEADS: dict[str, Head] = {
    "linear": Head(target="models.classifiers:Linear", description="a plain linear layer"),
    "cosine": Head(
        target="models.feature_model:CosineLinear",
        description="one that compares directions (the default of ldam)",
        options={"scale": number(COSINE_SCALE, "factor on the logits")},
    ),
    "scaled": Head(
        target="models.classifiers:ScaledLinear", description="a linear layer with a factor a class", on_request=False
    ),
}

PATTERNS = {
    "wrn-<depth>-<width>": "any wide ResNet whose depth is 6n + 4, as FixMatch builds it: LeakyReLU, slow BatchNorm",
    "wrn-<depth>-<width>-relu": "the same as the distillation literature builds it: ReLU, BatchNorm momentum 0.1",
    "<torchvision's resnet or resnext>-cifar": "with a 3x3 stem of stride 1 and no max-pooling, for small images",
    "timm:<name>": "any model of timm, where timm is installed",
}

CIFAR_STEM = "-cifar"
TIMM = "timm:"
_STL10_SHAPE = (37, 2)


class FeatureModelShape(NamedTuple):
    """What a name such as `mlp-512x2` says."""

    widths: tuple[int, ...] = ()  # of the hidden layers
    cosine: bool = False


def feature_model_shape(name: str) -> FeatureModelShape | None:
    """Reads the names of networks on stored features; None for a network on images."""
    if name in ("linear", COSINE):
        return FeatureModelShape(cosine=name == COSINE)
    match = re.fullmatch(r"mlp-([1-9]\d{0,5})(?:x([1-9]\d?))?", name)
    return FeatureModelShape((int(match[1]),) * int(match[2] or 1)) if match else None


_MOST_WEIGHTS = 2_000_000_000


class WideResNetShape(NamedTuple):
    """What a name such as `wrn-28-2` says."""

    blocks_per_group: int
    widths: tuple[int, ...]  # one per group; each group after the first halves the image
    first_stride: int
    relu: bool


def wide_resnet_shape(name: str) -> WideResNetShape | None:
    """Reads `wrn-<depth>-<width>` and `wrn-<depth>-<width>-relu`; None for a name of another kind.

    A wide ResNet of three groups has 6n + 4 layers. STL-10's 37-2 has four groups of n = 4 (depth 28 and
    a fourth group of nine layers), of 32, 64, 128 and 256 channels, and halves the image in the first one already,
    as TorchSSL and USB do (`first_stride=2`); google-research/fixmatch keeps its size there, with as many parameters.
    """
    match = re.fullmatch(r"wrn-(\d{1,9})-(\d{1,9})(-relu)?", name)
    if match is None:
        return None
    depth, width, relu = int(match[1]), int(match[2]), match[3] is not None
    if (depth, width) == _STL10_SHAPE:
        return WideResNetShape(4, (32, 64, 128, 256), 2, relu)
    blocks, left_over = divmod(depth - 4, 6)
    if blocks < 1 or left_over or width < 1:
        raise UserError(
            f"Model {name!r} does not exist: a wide ResNet's depth is 6n + 4 (10, 16, 22, 28, 34, 40, ...) "
            f"and its width at least 1, as in 'wrn-28-2'; 'wrn-37-2' is the only other one."
        )
    # A group has 2n convolutions of 3 x 3 between as many channels, but for its first.
    weights = sum(18 * blocks * (channels * width) ** 2 for channels in (16, 32, 64))
    if weights > _MOST_WEIGHTS:
        raise UserError(
            f"Model {name!r} would have about {weights:,} weights, and a wide ResNet may have {_MOST_WEIGHTS:,}; take "
            "a smaller depth or width, such as 'wrn-28-10'."
        )
    return WideResNetShape(blocks, (16 * width, 32 * width, 64 * width), 1, relu)


def check_model_name(name: str) -> None:
    """Raises UserError unless `build_model` knows the name. A name of timm's is only known to timm: not checked."""
    stem, has_cifar_stem = name.removesuffix(CIFAR_STEM), name.endswith(CIFAR_STEM)
    if has_cifar_stem and stem in TORCHVISION_MODELS and not stem.startswith("mobilenet"):
        return
    if feature_model_shape(name) or name in MODELS or name.startswith(TIMM) or wide_resnet_shape(name):
        return
    raise unknown_name("model", name, (*MODELS, *PATTERNS, *FEATURE_MODELS))


def check_input(name: str, features: bool) -> None:
    """Raises UserError for a network on images where there are stored features, and the other way round."""
    if features == (feature_model_shape(name) is not None):
        return
    if features:
        raise UserError(
            f"A feature store holds what a network made of the images, and {name} takes images themselves; give "
            f"--model {', '.join(FEATURE_MODELS)}, or the images' own --dataset."
        )
    raise UserError(f"{name} classifies stored features (--dataset store), and these are images; give another --model.")


def model_problems(name: str | None) -> list[str]:
    """What is wrong with a network's name, as a list for `problems`."""
    if name is None:
        return []
    try:
        check_model_name(name)
    except UserError as error:
        return [str(error)]
    return []
