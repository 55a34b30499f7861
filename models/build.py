"""One factory for every model."""

import torch
from torch import nn

from tailmatch.errors import UserError
from tailmatch.models.catalog import TIMM, check_model_name, feature_model_shape, wide_resnet_shape
from tailmatch.models.cifar_resnet import CIFAR_RESNET_SHAPES, OPTION_A, CifarResNet
from tailmatch.models.digits_cnn import DigitsCNN
from tailmatch.models.feature_model import FeatureModel
from tailmatch.models.mobilenet_v1 import MobileNetV1
from tailmatch.models.mobilenet_v2_small import SmallMobileNetV2
from tailmatch.models.other_libraries import build_timm, build_torchvision
from tailmatch.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from tailmatch.models.vgg import VGG, VGG_SHAPES
from tailmatch.models.wide_resnet import DIGITS, DIGITS_SHAPE, DISTILLATION, FIXMATCH, WideResNet

_BY_NAME = {
    "cnn-digits": DigitsCNN,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2-half": SmallMobileNetV2,
    "shufflenet_v1": ShuffleNetV1,
    "shufflenet_v2": ShuffleNetV2,
}
_SMALL = 32  # pixels: networks that shrink images by half five times begin to fail below


def build_model(name: str, num_classes: int, in_channels: int = 3, image_size: int | None = None) -> nn.Module:
    """Builds the named model with freshly drawn weights, mapping [B, in_channels, H, W] to logits [B, num_classes].

    The names are those of `catalog.MODELS`, `catalog.PATTERNS` and `catalog.FEATURE_MODELS`; the latter map stored
    features [B, in_channels]. Weights come from torch's global generator: seed it first. A name always means the same
    network, whatever the images' size: `resnet18` keeps torchvision's stem of stride 4 on 32x32 images too, and
    `resnet18-cifar` is the one with a 3x3 stem. Only timm's transformers, whose position embeddings have a size, use
    `image_size`.

    Raises UserError for an unknown name (with the nearest known one), for counts below one, and for images that are too
    small for the network.
    """
    check_model_name(name)
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", image_size)):
        if count is not None and count < 1:
            raise UserError(f"Model {name!r} needs {what} of at least 1, got {count}.")
    model = _built(name, num_classes, in_channels, image_size)
    if image_size is not None and image_size < _SMALL and feature_model_shape(name) is None:
        _refuse_too_small(model, name, in_channels, image_size)
    return model


@torch.no_grad()
def _refuse_too_small(model: nn.Module, name: str, channels: int, image_size: int) -> None:
    was_training = model.training
    try:
        model.eval()(torch.zeros(1, channels, image_size, image_size))
    except RuntimeError:
        raise UserError(
            f"Images of {image_size} x {image_size} pixels are too small for {name}, which halves them until "
            "nothing is left; take a wide ResNet such as wrn-28-2, or larger images."
        ) from None
    model.train(was_training)


def _built(name: str, num_classes: int, in_channels: int, image_size: int | None) -> nn.Module:
    if (of_features := feature_model_shape(name)) is not None:
        return FeatureModel(of_features, num_classes, in_channels)
    if name == "wrn-digits":
        return WideResNet(DIGITS_SHAPE, num_classes, in_channels, DIGITS)
    shape = wide_resnet_shape(name)
    if shape is not None:
        return WideResNet(shape, num_classes, in_channels, DISTILLATION if shape.relu else FIXMATCH)
    if (cifar_resnet := CIFAR_RESNET_SHAPES.get(name.removesuffix(OPTION_A))) is not None:
        return CifarResNet(*cifar_resnet, num_classes, in_channels, option_a=name.endswith(OPTION_A))
    if name in VGG_SHAPES:
        return VGG(VGG_SHAPES[name], num_classes, in_channels)
    if name in _BY_NAME:
        return _BY_NAME[name](num_classes, in_channels)
    if name.startswith(TIMM):
        return build_timm(name, num_classes, in_channels, image_size)
    return build_torchvision(name, num_classes, in_channels)


def count_parameters(model: nn.Module) -> int:
    """How many numbers the model learns: buffers such as BatchNorm's statistics and frozen weights do not count."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
