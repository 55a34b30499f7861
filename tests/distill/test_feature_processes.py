"""Two processes with half a batch each equal one with the whole batch, for every method that compares features."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed

from tailmatch.engine.distributed import World

SCRIPT = Path(__file__).with_name("two_processes.py")
spec = importlib.util.spec_from_file_location("two_processes_of_distillation", SCRIPT)
two_processes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(two_processes)

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two_processes")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], env=environment | {"RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=600) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", two_processes.FEATURE_METHODS)
def test_losses_gradients_and_states_equal_those_of_the_whole_batch(name: str, both) -> None:
    alone = two_processes.steps(name, World())
    losses = torch.stack([process[name]["losses"] for process in both]).mean(0)
    torch.testing.assert_close(losses, alone["losses"])
    assert any(gradient.any() for gradient in alone["gradients"])
    for process in both:
        for ours, whole in zip(process[name]["gradients"], alone["gradients"], strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-6, atol=1e-9 * float(whole.abs().max() + 1))
        for entry, value in alone["state"].items():
            torch.testing.assert_close(process[name]["state"][entry], value, msg=lambda text, at=entry: f"{at}: {text}")
