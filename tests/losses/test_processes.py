"""Two processes with half a batch each equal one process with the whole batch, for every loss."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed

SCRIPT = Path(__file__).with_name("two_processes.py")
spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
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


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return {"gradients": two_processes.gradients(0, 1), "means": two_processes.class_means(0, 1)}


@pytest.mark.parametrize("name", [*two_processes.TEACHER_LOSSES, *two_processes.LABEL_LOSSES])
def test_averaged_gradients_equal_those_of_the_whole_batch(name: str, both, alone) -> None:
    expected = alone["gradients"][name]
    assert any(grad.any() for grad in expected)
    for process in both:
        torch.testing.assert_close(process["gradients"][name], expected)


@pytest.mark.parametrize("state", ["epoch", "exponential", "resumed"])
def test_class_means_count_every_process_once(state: str, both, alone) -> None:
    for process in both:
        torch.testing.assert_close(process["means"][state], alone["means"][state])
