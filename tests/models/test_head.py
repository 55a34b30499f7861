"""The classifier and its input, for our models, torchvision's and anyone's own, wrapped or not."""

import copy
import re

import pytest
import torch
from torch import nn

from tailmatch.errors import UserError
from tailmatch.models import MODELS, build_model, forward_with_features, head_of


class OwnNetwork(nn.Module):
    """As users write them: the classifier is not the last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(12, 5))
        self.rotation = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.backbone(x))


class Wrapper(nn.Module):
    """The shape of DistributedDataParallel: one child called `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


@pytest.mark.parametrize("name", MODELS)
def test_head_of_every_model_gives_the_classes(name):
    with torch.device("meta"):
        model = build_model(name, 7)
        assert head_of(model).out_features == 7
        logits, features = forward_with_features(model, torch.empty(2, 3, 64, 64))
    assert logits.shape == (2, 7)
    assert features.shape == (2, head_of(model).in_features)


@pytest.mark.parametrize("name", ["wrn-digits", "resnet20", "resnet18", "mobilenet_v3_small", "own"])
@pytest.mark.parametrize("wrap", [lambda m: m, Wrapper, lambda m: Wrapper(torch.compile(m, backend="eager"))])
def test_features_are_what_the_head_turns_into_logits(name, wrap):
    torch.manual_seed(0)
    bare = OwnNetwork() if name == "own" else build_model(name, 5, in_channels=1)
    x = torch.randn(4, 1, 8, 8)
    logits, features = forward_with_features(wrap(bare), x)
    torch.testing.assert_close(head_of(bare)(features), logits)
    gradient = torch.autograd.grad(logits.logsumexp(1).sum(), features)[0]
    assert gradient.isfinite().all()
    assert gradient.any()
    assert not head_of(bare)._forward_pre_hooks, "the hook stays behind"


def test_head_of_unwraps_and_prefers_the_usual_names():
    own = OwnNetwork()
    for model in (own, Wrapper(own), torch.compile(own), Wrapper(torch.compile(own)), torch.compile(Wrapper(own))):
        assert head_of(model) is own.classifier[1]
    assert head_of(nn.Linear(3, 2)).out_features == 2
    assert head_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))).out_features == 2


def test_a_network_with_a_child_called_module_is_not_a_wrapper():
    network = Wrapper(nn.Linear(3, 4))
    network.fc = nn.Linear(4, 2)
    assert head_of(network) is network.fc


def test_a_copy_has_its_own_features():
    model = build_model("wrn-digits", 10, in_channels=1).eval()
    x = torch.randn(2, 1, 8, 8)
    _, before = forward_with_features(model, x)
    average = copy.deepcopy(model)
    with torch.no_grad():
        average.conv1.weight.mul_(2)
    _, of_the_copy = forward_with_features(average, x)
    _, after = forward_with_features(model, x)
    assert torch.equal(before, after)
    assert not torch.equal(before, of_the_copy)


def test_compiled_once_and_not_again_for_each_forward():
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    model = torch.compile(OwnNetwork(), backend=counter)
    for _ in range(4):
        forward_with_features(model, torch.randn(4, 1, 8, 8))
    assert counter.frame_count == 1


def test_the_hook_is_removed_when_the_forward_fails():
    model = OwnNetwork()
    with pytest.raises(RuntimeError):
        forward_with_features(model, torch.randn(4, 1, 9, 9))
    assert not head_of(model)._forward_pre_hooks


def test_refuses_models_without_a_classifier():
    with pytest.raises(UserError, match=re.escape("Conv2d has no torch.nn.Linear that could be its classifier")):
        head_of(nn.Conv2d(3, 10, kernel_size=1))


def test_refuses_when_the_head_did_not_run():
    class Misled(OwnNetwork):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rotation(self.backbone(x))

    with pytest.raises(UserError, match=re.escape("The classifier of Misled ran 0 times in one forward")):
        forward_with_features(Misled(), torch.randn(4, 1, 8, 8))
