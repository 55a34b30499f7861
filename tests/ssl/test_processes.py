"""Two processes with half of each batch have the states, and give the weights, of one process with the whole."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("two_processes.py")
ROOT = Path(__file__).resolve().parents[2]


def run(world: int, folder: Path) -> list[dict]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "WORLD_SIZE": str(world)}
    command = [sys.executable, str(SCRIPT), str(folder)]
    processes = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in range(world)]
    assert [process.wait(timeout=120) for process in processes] == [0] * world
    return [torch.load(folder / f"{world}-{rank}.pt", weights_only=True) for rank in range(world)]


def test_states_and_weights_are_those_of_one_process(tmp_path):
    (one,), two = run(1, tmp_path), run(2, tmp_path)
    for name in set(one) - {"rows"}:
        weights, state = one[name]
        for rank, found in enumerate(two):
            its_weights, its_state = found[name]
            for whole, part in zip(weights, its_weights, strict=True):
                assert torch.allclose(whole[rank::2], part, atol=1e-5), name
            for key in state:
                assert torch.allclose(state[key].float(), its_state[key].float(), atol=1e-5), (name, key)
    rows, first = two[1]["rows"]
    assert rows[:, 0].tolist() == [0, 0, 1, 1, 1]
    assert first.item() == 0
