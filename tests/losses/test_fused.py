"""The fused CUDA path: equal to the plain one where it runs, and out of the way where it does not."""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tailmatch.losses import decoupled_kl, fused

SCRIPT = Path(__file__).with_name("fused_against_plain.py")
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, which this torch comes without")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def compare(device: str, **environment: str) -> str:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    result = subprocess.run(
        [sys.executable, str(SCRIPT), device],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@needs_triton
def test_equal_to_the_plain_path_in_the_interpreter() -> None:
    assert compare("cpu", TRITON_INTERPRET="1") == "29"


@needs_cuda
@needs_triton
def test_equal_to_the_plain_path_on_the_device() -> None:
    assert compare("cuda", TRITON_INTERPRET="0") == "144"


@needs_cuda
def test_the_public_function_on_the_device_equals_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 1000, generator=generator)
    weights = torch.softmax(torch.randn(64, 1000, generator=generator), -1)
    grads = []
    for device in ("cpu", "cuda"):
        s = student.to(device).requires_grad_()
        decoupled_kl(s, teacher.to(device), weights.to(device), gamma=0.3, normalize="weights").backward()
        grads.append(s.grad.cpu())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-7)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    """As if the kernels could run on this machine; `call` stands for them."""

    def install(call) -> None:
        monkeypatch.setattr(fused, "can_fuse", lambda *_: True)
        monkeypatch.setattr(fused, "_has_failed", False)
        monkeypatch.setattr(fused, "_apply", call)

    return install


def test_a_kernel_that_does_not_build_gives_way_to_the_plain_path_with_one_warning(pretend, batch) -> None:
    expected = decoupled_kl(batch.student, batch.teacher)
    tries = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise RuntimeError("no C compiler\nand a long trace")

    pretend(fail)
    with pytest.warns(UserWarning, match=r"cannot run here \(no C compiler\); using the plain one"):
        assert torch.equal(decoupled_kl(batch.student, batch.teacher), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(decoupled_kl(batch.student, batch.teacher), expected)
    assert tries == [1]


def test_running_out_of_memory_is_not_hidden(pretend, batch) -> None:
    def fail(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("full")

    pretend(fail)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        decoupled_kl(batch.student, batch.teacher)


def test_the_fused_rows_are_used_where_they_run(pretend, batch) -> None:
    pretend(lambda student, *_: (torch.full((5,), 2.0), torch.full((5,), 3.0), torch.ones(5)))
    assert float(decoupled_kl(batch.student, batch.teacher, alpha=10.0, beta=100.0)) == 320.0


def test_not_on_a_cpu_nor_in_float64_nor_when_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.zeros(2, 3)
    monkeypatch.setattr(fused, "_has_triton", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("TAILMATCH_FUSED", raising=False)
    assert not fused.can_fuse(logits, logits, None)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # now as if on a device
    assert fused.can_fuse(logits, logits, None)
    assert fused.can_fuse(logits.bfloat16(), logits.half(), logits)
    assert not fused.can_fuse(logits.double(), logits, None)
    assert not fused.can_fuse(logits, logits, logits.double())
    assert not fused.can_fuse(logits[:0], logits[:0], None)
    monkeypatch.setenv("TAILMATCH_FUSED", "0")
    assert not fused.can_fuse(logits, logits, None)
    monkeypatch.delenv("TAILMATCH_FUSED")
    monkeypatch.setattr(fused, "_has_triton", lambda: False)
    assert not fused.can_fuse(logits, logits, None)
