"""How much faster two processes are than one here, what drawing for all of them costs, and what to expect of 8 and 64.

    python benchmarks/processes.py

Strong scaling: the same run, its batch shared by one process and by two, through torchrun. The arithmetic for more is
that of a ring all-reduce of the gradients under the stated bandwidths, beside the stated speed of a GPU; both are
assumptions to be replaced by one's own (--help). The record goes into results/reliability.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from reliability import ROOT, record

from tailmatch.datasets.strong_augment import StrongAugment
from tailmatch.engine.distributed import World
from tailmatch.models.build import build_model

# ResNet-50 at 224 pixels: 4.1 G multiply-adds forward; training is three times a forward pass, the teacher's is one.
GIGA_OPERATIONS_FORWARD = 8.2


def speed(processes: int, batchnorm: str, arguments: argparse.Namespace, place: Path) -> float:
    """Images a second while it trains, the median of the rows of metrics but the first."""
    out = place / f"{batchnorm}-by-{processes}"
    words = ["ssl", "--model", arguments.model, "--batch-size", "32", "--steps", str(arguments.steps)]
    words += ["--log-every", "2", "--eval-every", str(arguments.steps), "--threads", "1", "--device", "cpu"]
    words += ["--batchnorm", batchnorm]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*torchrun, str(ROOT / "run.py"), *words, "--out", str(out)]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    # The speed of a row is a mean since the start: the time between rows says more.
    seconds = [later["seconds"] - one["seconds"] for one, later in pairwise(rows)]
    return 2 * 32 * 8 / median(seconds)


def drawing(processes: int, images: int) -> float:
    """Milliseconds for the random numbers of a batch's strong views, of which one process takes its part."""
    augment, draw, times = StrongAugment(), torch.Generator().manual_seed(0), []
    for _ in range(50):
        begun = time.perf_counter()
        augment.draw_all(images, draw).at(World(0, processes).part)
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


def communication(gpus: int, images: int, arguments: argparse.Namespace) -> dict[str, float]:
    """A step's milliseconds: what is computed, what is sent, and what of it the backward pass cannot hide."""
    megabytes = 4e-6 * sum(p.numel() for p in build_model("resnet50", 1000).parameters())
    bandwidth = arguments.within if gpus <= 8 else arguments.between
    computed = images / gpus * 4 * GIGA_OPERATIONS_FORWARD / arguments.teraflops
    sent = 2 * (gpus - 1) / gpus * megabytes / bandwidth
    shown = max(sent - computed / 2, 0)  # the backward pass is half of it: two of four forward passes' worth
    return {
        "gpus": gpus,
        "batch": images,
        "computed_ms": round(computed, 2),
        "sent_megabytes": round(2 * (gpus - 1) / gpus * megabytes, 1),
        "sent_ms": round(sent, 2),
        "share_unless_hidden": round(sent / (sent + computed), 3),
        "share_behind_the_backward_pass": round(shown / (shown + computed), 3),
        "times_faster_than_one": round(
            images * 4 * GIGA_OPERATIONS_FORWARD / arguments.teraflops / (computed + shown), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="wrn-16-2", help="trained for strong scaling, on the digits")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--teraflops", type=float, default=40.0, help="that a GPU sustains in a ResNet-50, 10^12 / s")
    parser.add_argument("--within", type=float, default=200.0, help="GB/s of an all-reduce within a node")
    parser.add_argument("--between", type=float, default=40.0, help="GB/s of an all-reduce between nodes")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        alone = speed(1, "per-process", arguments, Path(place))  # one process has the same statistics either way
        by_two = {kind: speed(2, kind, arguments, Path(place)) for kind in ("synchronized", "per-process")}
    found = {
        "strong scaling": {
            "model": arguments.model,
            "images_per_step": 256,
            "images_per_second": {
                "1": round(alone, 1),
                **{f"2, BatchNorm {kind}": round(value, 1) for kind, value in by_two.items()},
            },
            "times_faster": {kind: round(value / alone, 2) for kind, value in by_two.items()},
            "cores": os.cpu_count(),
            "load_before": round(load, 1),
        },
        "drawing a batch's strong views, ms": {
            f"{images} images of {processes} processes": round(drawing(processes, images), 3)
            for processes, images in ((1, 448), (8, 448), (64, 448), (64, 64 * 448))
        },
        "communication, ImageNet-LT, ResNet-50 from a ResNet-50": {
            "assumed": {
                "teraflops": arguments.teraflops,
                "GB/s within a node": arguments.within,
                "GB/s between nodes": arguments.between,
            },
            "rows": [communication(*row, arguments) for row in ((8, 128), (64, 128), (8, 8 * 32), (64, 64 * 32))],
        },
    }
    record("processes", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
