"""BatchNorm over all processes, over each one's images, and over parts of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tailmatch.engine.batchnorm import ChunkedBatchNorm, with_batchnorm
from tailmatch.engine.options import RunOptions
from tailmatch.errors import UserError
from tailmatch.models import build_model

SCRIPT = Path(__file__).with_name("two_processes_batchnorm.py")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    net(torch.zeros(2, 3, 6, 6))
    nn.init.normal_(net[1].weight)
    return net.train()


def images() -> Tensor:
    return torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1)) + 1


def gradients(net: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(net.parameters())))


def test_chunks_equal_as_many_forwards_of_their_own() -> None:
    whole, apart, first = network(), network(), network()
    chunked = with_batchnorm(whole, "chunks:4", 1)
    assert isinstance(chunked[1], ChunkedBatchNorm)
    assert list(chunked.state_dict()) == list(apart.state_dict())
    logits = chunked(images())
    apart[1].running_mean = apart[1].running_var = None
    expected = torch.stack([apart(images()[chunk::4]) for chunk in range(4)], 1).flatten(0, 1)
    assert torch.allclose(logits, expected, atol=1e-6)
    for got, wanted in zip(
        gradients(chunked, logits.square().mean()), gradients(apart, expected.square().mean()), strict=True
    ):
        assert torch.allclose(got, wanted, atol=1e-6)
    first(images()[0::4])
    assert torch.allclose(chunked[1].running_mean, first[1].running_mean, atol=1e-7)
    assert torch.allclose(chunked[1].running_var, first[1].running_var, atol=1e-6)
    assert torch.allclose(chunked.eval()(images()), first.eval()(images()), atol=1e-6)


@pytest.mark.parametrize("name", ["wrn-10-1", "wrn-10-1-relu", "cnn-digits", "resnet20", "mobilenet_v1"])
def test_a_network_says_the_same_whatever_its_layers_train_on(name: str) -> None:
    """Nothing but the statistics of training is replaced: the activations stay."""
    torch.manual_seed(0)
    model = build_model(name, 4).eval()
    pictures = torch.randn(2, 3, 32, 32)
    expected = model(pictures)
    changed = with_batchnorm(model, "chunks:2", 1)
    assert any(isinstance(layer, ChunkedBatchNorm) for layer in changed.modules())
    assert torch.equal(changed.eval()(pictures), expected)


def test_a_layer_that_does_more_than_normalise_is_not_replaced() -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).relu()

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Activated(4))
    for layers, processes in (("chunks:2", 1), ("synchronized", 2)):
        with pytest.raises(UserError, match=r"1 \(Activated\) does more than normalise; take --batchnorm per-process"):
            with_batchnorm(net, layers, processes)
    assert with_batchnorm(net, "per-process", 2) is net


def test_a_batch_that_does_not_divide_is_refused() -> None:
    net = with_batchnorm(network(), "chunks:3", 1)
    with pytest.raises(UserError, match="over 3 chunks needs batches that divide by 3, got one of 8 images"):
        net(images())


def test_processes_share_the_chunks() -> None:
    assert with_batchnorm(network(), "chunks:4", 2)[1].chunks == 2
    assert type(with_batchnorm(network(), "chunks:4", 4)[1]) is nn.BatchNorm2d
    with pytest.raises(UserError, match="chunks:4 cannot be shared by 3 processes; start 1 or 4"):
        with_batchnorm(network(), "chunks:4", 3)


@pytest.mark.parametrize("word", ["chunks", "chunks:1", "chunks:x", "chunks:-2", "sync", ""])
def test_other_words_are_refused(word: str) -> None:
    assert any("batchnorm must be synchronized" in problem for problem in RunOptions(batchnorm=word).problems())


@pytest.mark.parametrize("word", ["synchronized", "per-process", "chunks:4"])
def test_these_words_are_taken(word: str) -> None:
    assert RunOptions(batchnorm=word).problems() == []


def test_one_process_needs_no_synchronizing() -> None:
    net = network()
    assert with_batchnorm(net, "synchronized", 1) is net
    assert type(net[1]) is nn.BatchNorm2d


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_with_half_a_batch_each_equal_one_with_all_of_it(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path)], env=environment | {"RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=600) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = network()
    wanted = gradients(alone, alone(images()).square().mean())
    for found in both:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found["gradients"], wanted, strict=True))
        for name, value in alone.state_dict().items():
            assert torch.allclose(found["state"][name].double(), value.double(), atol=1e-6), name
