"""Run twice by test_feature_processes.py: each process takes two steps of every method on its part of a batch, by DDP.

Usage: RANK=... WORLD_SIZE=... python two_processes.py FOLDER. Writes FOLDER/<RANK>.pt: losses, gradients, states.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tailmatch.distill import FEATURE_METHODS, Taps, build_feature_method
from tailmatch.engine.batchnorm import with_batchnorm
from tailmatch.engine.distributed import World
from tailmatch.engine.stopping import leave
from tailmatch.models import build_model

BATCH, TRAINING_IMAGES, CLASSES, RATE = 8, 30, 5, 0.01


def steps(name: str, world: World) -> dict[str, Any]:
    """Two steps of gradient descent; the second one meets what the first has left behind."""
    torch.manual_seed(world.rank)  # the first process's weights must reach the other
    student, teacher = (build_model(each, CLASSES, 1).double() for each in ("cnn-digits", "wrn-digits"))
    draw = torch.Generator().manual_seed(2)
    for network in (student, teacher):
        for parameter in network.parameters():
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    images = torch.randn(2, BATCH, 1, 8, 8, generator=draw, dtype=torch.float64)
    labels = torch.arange(BATCH) % CLASSES
    index = torch.randperm(TRAINING_IMAGES, generator=draw)[:BATCH]
    options = {"negatives": 8, "embedding": 4} if name == "crd" else {}
    method = build_feature_method(
        name,
        student.float(),
        teacher.float(),
        images[0, :1].float(),
        torch.arange(TRAINING_IMAGES) % CLASSES,
        **options,
    )
    student, method = (with_batchnorm(each, "synchronized", world.size).double() for each in (student, method))
    taps, looking = Taps(student, method.looks_at), Taps(teacher.double().eval(), method.looks_at)
    net: nn.Module = student if world.size == 1 else DistributedDataParallel(student)
    losses = []
    for step in range(2):
        with torch.no_grad():
            seen = looking(teacher, images[step][world.part])
        shown = taps(net, images[step][world.part])
        loss = method(shown, seen, labels[world.part], index[world.part])
        loss = loss + nn.functional.cross_entropy(shown.logits, labels[world.part])
        trained = [*student.parameters(), *method.parameters()]
        for parameter in trained:
            parameter.grad = None
        loss.backward()
        losses.append(loss.detach())
        with torch.no_grad():
            for parameter in trained:
                if parameter.grad is not None:
                    parameter -= RATE * parameter.grad
    gradients = [torch.zeros(()) if parameter.grad is None else parameter.grad.clone() for parameter in trained]
    return {"losses": torch.stack(losses), "gradients": gradients, "state": dict(method.state_dict())}


def main() -> None:
    world, folder = World.from_environment(), Path(sys.argv[1])
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=world.rank, world_size=world.size
    )
    torch.save({name: steps(name, world) for name in FEATURE_METHODS}, folder / f"{world.rank}.pt")
    distributed.barrier()  # nobody hangs up while another still reads
    distributed.destroy_process_group()
    leave(0)


if __name__ == "__main__":
    main()
