"""What the hooks see of a network, and that they leave it as it was."""

import pytest
import torch
from torch import nn

from tailmatch.distill import FEATURE_METHODS, Taps, build_feature_method, shapes_of
from tailmatch.distill.features.base import PREACTIVATIONS, STAGES
from tailmatch.errors import UserError
from tailmatch.models import build_model
from tailmatch.models.stages import stages_of

BOTH = {STAGES, PREACTIVATIONS}
NETWORKS = ("resnet8", "wrn-16-1-relu", "vgg8", "mobilenet_v2-half", "shufflenet_v1", "shufflenet_v2", "resnet50-cifar",
            "mobilenet_v1", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "wrn-digits", "cnn-digits")  # fmt: skip
WITHOUT_ACTIVATION = {"mobilenet_v2-half", "mobilenet_v2", "mobilenet_v3_small"}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_before_the_activation_are_those_after_it_once_activated(name: str) -> None:
    model, images = network(name).train(), torch.randn(2, 3, 32, 32)
    taps = Taps(model, BOTH)
    seen = taps(model, images)
    assert len(seen.stages) == len(seen.preactivations) == len(stages_of(model)) - 1
    assert seen.logits.shape == (2, 7)
    assert seen.pooled.ndim == 2
    for after, before in zip(seen.stages, seen.preactivations, strict=True):
        assert after.shape[0] == 2
        if name in WITHOUT_ACTIVATION:
            assert after is before
        elif not name.startswith("wrn"):  # whose groups end before the next one's BatchNorm
            assert (before < 0).any()
            expected = before.relu() if name != "cnn-digits" else nn.functional.leaky_relu(before, 0.1)
            assert sorted(after.flatten().tolist()) == pytest.approx(sorted(expected.flatten().tolist()))
    assert {*map(tuple, (x.shape[1:] for x in seen.stages))} == {*shapes_of(model, images).stages}


@pytest.mark.parametrize("name", NETWORKS)
def test_hooks_change_neither_logits_nor_gradients_nor_the_network(name: str) -> None:
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    plain, tapped = network(name).train(), network(name).train()
    torch.manual_seed(1)  # torchvision's have dropout
    expected = nn.functional.cross_entropy(plain(images), labels)
    taps = Taps(tapped, BOTH)
    torch.manual_seed(1)
    found = nn.functional.cross_entropy(taps(tapped, images).logits, labels)
    assert torch.equal(found, expected)
    expected.backward()
    found.backward()
    for one, other in zip(plain.parameters(), tapped.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    taps.close()
    assert [repr(module) for module in tapped.modules()] == [repr(module) for module in plain.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tapped.modules())


def test_a_dry_forward_leaves_modes_and_statistics_alone() -> None:
    model = network("resnet8").train()
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    shapes = shapes_of(model, torch.randn(1, 3, 32, 32))
    assert shapes.stages == ((16, 32, 32), (32, 16, 16), (64, 8, 8))
    assert (shapes.pooled, [spread[0].shape[0] for spread in shapes.spread if spread]) == (64, [16, 32, 64])
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nothing_is_kept_between_calls_and_other_calls_keep_nothing() -> None:
    model = network("resnet8")
    taps = Taps(model, BOTH)
    taps(model, torch.randn(1, 3, 32, 32))
    model(torch.randn(1, 3, 32, 32))
    assert not taps._kept


def test_a_compiled_network_shows_the_same() -> None:
    model, images = network("resnet8").eval(), torch.randn(2, 3, 32, 32)
    taps = Taps(model, BOTH)
    plain, compiled = taps(model, images), taps(torch.compile(model, backend="aot_eager"), images)
    seen = [(*each.stages, *each.preactivations, each.pooled, each.logits) for each in (plain, compiled)]
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEATURE_METHODS)
@pytest.mark.parametrize(
    "pair", [("resnet8", "wrn-16-1-relu"), ("mobilenet_v2-half", "vgg8"), ("cnn-digits", "wrn-digits")]
)
def test_every_method_trains_a_student_of_another_kind(name: str, pair: tuple[str, str]) -> None:
    student, teacher = (network(each) for each in pair)
    teacher.eval().requires_grad_(False)
    images, labels, index = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]), torch.tensor([3, 1, 0, 9])
    options = {"negatives": 8} if name == "crd" else {}
    method = build_feature_method(name, student, teacher, images[:1], torch.arange(10) % 7, **options)
    with torch.no_grad():
        seen = Taps(teacher, method.looks_at)(teacher, images)
    method(Taps(student, method.looks_at)(student, images), seen, labels, index).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_networks_without_stages_are_compared_by_their_pooled_features() -> None:
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(48, size), nn.Linear(size, 7)) for size in (5, 9))
    images, labels, index = torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 2, 3]), torch.arange(4)
    for name in ("rkd", "pkt", "crd"):
        method = build_feature_method(name, student, teacher, images[:1], torch.arange(10) % 7)
        shown, seen = (Taps(network, method.looks_at)(network, images) for network in (student, teacher))
        method(shown, seen, labels, index).backward()
        assert student[1].weight.grad.any()
        student.zero_grad()
    with pytest.raises(UserError, match="does not name its stages"):
        build_feature_method("at", student, teacher, images[:1], torch.arange(10) % 7)


def test_networks_without_stages_are_refused_where_stages_are_compared() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    assert Taps(model, ())(model, torch.randn(2, 3, 4, 4)).pooled.shape == (2, 48)
    with pytest.raises(UserError, match="Sequential does not name its stages"):
        Taps(model, {STAGES})
