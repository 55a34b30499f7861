"""Devices and precisions that are not there are refused by name."""

import pytest
import torch

from tailmatch.engine.device import Autocast, pick_device
from tailmatch.errors import UserError


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=f"Device '{name}' is not available here; use one of: auto, cpu."):
        pick_device(name)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto", local_rank=3) == torch.device("cuda", 3)
    assert pick_device("cpu") == torch.device("cpu")


def test_half_precision_on_the_cpu() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match=r"Precision 'fp16' needs a GPU; on the CPU use fp32 or bf16."):
        Autocast.pick("fp16", cpu)
    assert Autocast.pick("auto", cpu).dtype is None
    assert Autocast.pick("bf16", cpu).dtype is torch.bfloat16


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_it(precision: str, expected: torch.dtype) -> None:
    with Autocast.pick(precision, torch.device("cpu"))():  # type: ignore[arg-type]
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is expected


def test_only_fp16_scales_its_losses() -> None:
    for dtype, scaled in ((None, False), (torch.bfloat16, False)):
        assert Autocast(torch.device("cpu"), dtype).scaler().is_enabled() is scaled
