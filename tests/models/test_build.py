"""The factory: published sizes, shapes, what each network is made of, and what is refused."""

import importlib.util
import re

import pytest
import torch
from torch import nn

from tailmatch.errors import UserError
from tailmatch.models import MODELS, build_model, count_parameters

SMALL = ["wrn-digits", "cnn-digits", "wrn-16-2", "wrn-40-1-relu", "resnet20", "resnet8x4", "resnet18", "resnet18-cifar",
         "vgg8", "mobilenet_v2-half", "shufflenet_v1", "shufflenet_v2", "mobilenet_v1", "mobilenet_v2",
         "mobilenet_v3_small"]  # fmt: skip


def on_meta(name: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """The network without its weights: large ones take no time and no memory."""
    with torch.device("meta"):
        return build_model(name, num_classes, in_channels)


@pytest.mark.parametrize(
    ("name", "num_classes", "published"),
    [
        ("wrn-28-2", 10, 1_467_610),  # kekmodel/FixMatch-pytorch prints 1.47M
        ("wrn-28-8", 100, 23_401_012),  # 23.4M
        ("wrn-16-2", 100, 703_284),  # from here to resnet32x4, the networks of RepDistiller and mdistiller: 0.70M
        ("wrn-40-1-relu", 100, 569_780),  # 0.57M
        ("wrn-40-2-relu", 100, 2_255_156),  # 2.26M
        ("resnet8", 100, 83_892),  # 0.08M
        ("resnet14", 100, 181_108),
        ("resnet44", 100, 667_188),
        ("wrn-16-1-relu", 100, 180_916),
        ("vgg8", 100, 3_965_028),  # 3.97M
        ("vgg13", 100, 9_462_180),  # 9.46M
        ("mobilenet_v2-half", 100, 812_836),  # 0.81M
        ("shufflenet_v1", 100, 949_258),  # 0.95M
        ("shufflenet_v2", 100, 1_355_528),  # 1.36M
        ("resnet50-cifar", 100, 23_705_252),  # 23.7M
        ("resnet20", 100, 278_324),  # 0.28M
        ("resnet32", 100, 472_756),  # 0.47M
        ("resnet56", 100, 861_620),  # 0.86M
        ("resnet110", 100, 1_736_564),  # 1.74M
        ("resnet8x4", 100, 1_233_540),  # 1.23M
        ("resnet32x4", 100, 7_433_860),  # 7.43M
        ("resnet10", 1000, 5_418_792),  # classifier-balancing's ResNet-10 with its classifier
        ("resnet18", 1000, 11_689_512),  # torchvision's documentation
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
        ("resnext50_32x4d", 1000, 25_028_904),
        ("resnext101_32x4d", 1000, 44_177_704),  # timm's documentation: 44.18M
        ("resnext101_32x8d", 1000, 88_791_336),
        ("mobilenet_v1", 1000, 4_231_976),  # the paper: 4.2M
        ("mobilenet_v2", 1000, 3_504_872),
        ("mobilenet_v3_small", 1000, 2_542_856),
        ("mobilenet_v3_large", 1000, 5_483_032),
    ],
)
def test_parameter_counts_are_the_published_ones(name, num_classes, published):
    assert count_parameters(on_meta(name, num_classes)) == published


def test_the_stl10_network_has_four_groups_and_halves_the_image_in_each():
    model = on_meta("wrn-37-2", 10)
    maps = [model.conv1(torch.empty(2, 3, 96, 96, device="meta"))]
    for group in model.groups:
        maps.append(group(maps[-1]))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 96, 96), (32, 48, 48), (64, 24, 24), (128, 12, 12), (256, 6, 6)]
    assert [len(group) for group in model.groups] == [4, 4, 4, 4]


@pytest.mark.parametrize("name", MODELS)
def test_every_listed_model_maps_images_to_logits_in_colour_and_gray(name):
    for channels in (1, 3):
        model = on_meta(name, 7, channels)
        assert model(torch.empty(2, channels, 64, 64, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", SMALL)
def test_gray_images_reach_every_weight(name):
    torch.manual_seed(0)
    model = build_model(name, 5, in_channels=1)
    model(torch.randn(4, 1, 32, 32)).logsumexp(1).sum().backward()
    without = [path for path, weight in model.named_parameters() if weight.grad is None]
    assert not without
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_weights_follow_the_global_seed_alone(name):
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build_model(name, 5, in_channels=1).parameters()).detach()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_a_three_channel_torchvision_model_is_torchvisions_own():
    from tailmatch.torchvision_import import torchvision

    torch.manual_seed(0)
    ours = build_model("resnet18", 10).state_dict()
    torch.manual_seed(0)
    theirs = torchvision("models").resnet18(num_classes=10).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_cifar_stem_keeps_the_images_size():
    image = torch.empty(2, 3, 32, 32, device="meta")
    for name, size in (("resnet18", 8), ("resnet18-cifar", 32), ("resnext50_32x4d-cifar", 32)):
        model = on_meta(name, 10)
        stem_output = model.maxpool(model.relu(model.bn1(model.conv1(image))))
        assert stem_output.shape[-1] == size, name


@pytest.mark.parametrize(
    ("name", "momentum", "eps", "slope"),
    [
        ("wrn-28-2", 0.001, 0.001, 0.1),
        ("wrn-37-2", 0.001, 0.001, 0.1),
        ("wrn-digits", 0.1, 0.001, 0.1),
        ("wrn-40-2-relu", 0.1, 1e-5, 0.0),
    ],
)
def test_batch_norm_and_activation_of_wide_resnets(name, momentum, eps, slope):
    model = on_meta(name, 10)
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(momentum, eps)}
    assert {layer.negative_slope for layer in model.modules() if hasattr(layer, "negative_slope")} == {slope}


def test_fixmatch_initialisation():
    torch.manual_seed(0)
    model = build_model("wrn-28-2", 10)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 4000:
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert model.fc.weight.std().item() == pytest.approx((2 / (128 + 10)) ** 0.5, rel=0.1)
    assert not model.fc.bias.any()


@pytest.mark.parametrize(
    ("name", "after_activation"), [("wrn-10-2", [True, False, False]), ("wrn-10-2-relu", [True] * 3)]
)
def test_where_the_shortcuts_start(name, after_activation):
    """FixMatch activates before the first block's shortcut only, the distillation literature before every projection.

    A large bias in the block's first BatchNorm shows up in its shortcut exactly if that starts after the activation.
    """
    torch.manual_seed(0)
    model = build_model(name, 10).eval()
    found = []
    for group in model.groups:
        block = group[0]
        nn.init.zeros_(block.conv2.weight)  # only the shortcut is left
        x = torch.randn(2, block.conv1.in_channels, 8, 8)
        before = block(x)
        nn.init.constant_(block.bn1.bias, 100.0)
        found.append(not torch.equal(before, block(x)))
    assert found == after_activation


def test_a_wide_resnet_is_its_formula():
    """A block written out with functional calls gives the same numbers."""
    torch.manual_seed(0)
    model = build_model("wrn-10-1", 10)
    block, x = model.groups[1][0], torch.randn(3, 16, 8, 8)

    def norm(layer: nn.BatchNorm2d, y: torch.Tensor) -> torch.Tensor:
        deviation = (y.var(dim=(0, 2, 3), unbiased=False, keepdim=True) + 0.001).sqrt()
        y = (y - y.mean(dim=(0, 2, 3), keepdim=True)) / deviation
        return torch.where(y > 0, y, 0.1 * y)

    conv = nn.functional.conv2d
    residual = conv(norm(block.bn1, x), block.conv1.weight, stride=2, padding=1)
    residual = conv(norm(block.bn2, residual), block.conv2.weight, padding=1)
    expected = residual + conv(x, block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_channels_last_gives_the_same_logits():
    torch.manual_seed(0)
    model, x = build_model("wrn-digits", 10, in_channels=1).eval(), torch.randn(4, 1, 8, 8)
    expected = model(x)
    in_other_format = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(in_other_format, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrn_28_2", "Unknown model 'wrn_28_2'. Did you mean 'wrn-28-2'? Allowed: wrn-digits, "),
        ("resnet-50", "Did you mean 'resnet50'?"),
        ("mobilenet_v2-cifar", "Did you mean 'mobilenet_v2-half'?"),
        ("wrn-29-2", "a wide ResNet's depth is 6n + 4 (10, 16, 22, 28, 34, 40, ...)"),
        ("wrn-4-2", "a wide ResNet's depth is 6n + 4"),
        ("wrn-28-0", "its width at least 1"),
    ],
)
def test_refuses_names_it_does_not_know(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        build_model(name, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "Model 'resnet20' needs num_classes of at least 1, got 0."),
        ({"num_classes": 10, "in_channels": 0}, "needs in_channels of at least 1, got 0."),
        ({"num_classes": 10, "image_size": -1}, "needs image_size of at least 1, got -1."),
    ],
)
def test_refuses_counts_below_one(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        build_model("resnet20", **arguments)


def test_timm_without_timm_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs timm, which is not installed: run `pip install timm`"):
        build_model("timm:vit_tiny_patch16_224", 10)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is optional")
def test_timm_models_take_image_size_and_channels():
    for name in ("timm:vit_tiny_patch16_224", "timm:resnet10t"):
        assert build_model(name, 7, in_channels=1, image_size=32)(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    with pytest.raises(UserError, match="Did you mean 'vit_tiny_patch16_224'"):
        build_model("timm:vit_tinny_patch16_224", 7)


def test_frozen_weights_do_not_count():
    model = build_model("wrn-digits", 10, in_channels=1)
    everything = count_parameters(model)
    model.fc.requires_grad_(False)
    assert count_parameters(model) == everything - 64 * 10 - 10
