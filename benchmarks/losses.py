"""What the losses cost, forward and backward: ours, torch's own KL, and the form that builds all pairs of classes.

    python benchmarks/losses.py                 # one CPU core: table, results/losses.json, results/losses.png
    python benchmarks/losses.py --device cuda   # on a GPU: results/losses-cuda.json and .png

All contenders work on the same float32 logits in the same process. Their repetitions alternate in a changing order, so
that whatever else the machine does falls on all of them, and the median is reported. On one CPU thread time is the
processor's own (`time.process_time`), which other programs hardly lengthen; with more threads it is the wall clock's;
on a GPU it is the device's, by events. Peak extra memory is what PyTorch's allocator had out at most beyond the inputs,
gradient included, from the memory events of PyTorch's profiler (CPU) or the allocator's own peak (GPU).

On a GPU the floor is reading both logits and the class weights once and writing one gradient, at the bandwidth of a
large copy measured in the same run.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports every start and stop otherwise

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.losses import decoupled_kl, kl

RESULTS = Path(__file__).parent / "results"
SIZES = ((448, 100), (128, 1000), (256, 8142), (32, 100_000))
LADDER = tuple((32, 250 * 4**power) for power in range(6))
"""Sizes for the scaling plot: 250 to 256,000 classes at one batch size."""
LARGEST_PAIR_BYTES = 1e9
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def pairwise(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """IKL as its definition reads: a tensor [B, C, C] of differences, weighted and summed."""
    soft = -(F.softmax(teacher, -1) * F.log_softmax(student, -1)).sum(-1).mean()
    difference = teacher - student
    pairs = difference[:, :, None] - difference[:, None, :]
    spread = (weights[:, :, None] * weights[:, None, :] * pairs**2).sum((1, 2))
    return soft + 0.25 * spread.mean()


def torch_kl(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="batchmean")


# The module GKL raises its class means to gamma once an epoch: "ours: GKL" is what it does in a step. "Power taken" is
# the bare function, given weights that still have to be raised.
CONTENDERS: dict[str, Loss] = {
    "torch KL": torch_kl,
    "ours: IKL": lambda s, t, w: decoupled_kl(s, t, w),
    "ours: IKL, own softmax": lambda s, t, w: decoupled_kl(s, t),
    "ours: GKL": lambda s, t, w: decoupled_kl(s, t, w, normalize="weights"),
    "ours: GKL, own softmax": lambda s, t, w: decoupled_kl(s, t, gamma=0.3, normalize="weights"),
    "ours: GKL, power taken": lambda s, t, w: decoupled_kl(s, t, w, gamma=0.3, normalize="weights"),
    "ours: KL": lambda s, t, w: kl(s, t),
    "pairwise IKL": pairwise,
}


def draw(batch: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher, weights = torch.randn(3, batch, classes, generator=generator).to(device)
    return student.requires_grad_(), teacher, torch.softmax(weights, -1)


def step(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    inputs[0].grad = None
    loss(*inputs).backward()


def seconds(action: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        action()
        last.record()
        torch.cuda.synchronize(device)
        return float(first.elapsed_time(last)) / 1e3
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    action()
    return clock() - start


def peak_bytes(action: Callable[[], None], device: torch.device) -> int:
    """The most that was allocated at once during the action, beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        action()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    peak = held = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(size: tuple[int, int], names: list[str], device: torch.device, budget: float) -> list[dict[str, Any]]:
    """One row for each contender at one size; repetitions alternate until `budget` seconds are used."""
    batch, classes = size
    inputs = draw(batch, classes, device)
    pair_bytes = 4.0 * batch * classes**2
    rows = {name: {"batch": batch, "classes": classes, "loss": name} for name in names}
    runnable = [name for name in names if name != "pairwise IKL" or pair_bytes < LARGEST_PAIR_BYTES]
    for name in runnable:
        step(CONTENDERS[name], inputs)  # warm up: allocator, threads, kernels
        inputs[0].grad = None
        rows[name]["peak_bytes"] = peak_bytes(lambda name=name: step(CONTENDERS[name], inputs), device)
    for name in set(names) - set(runnable):
        rows[name]["skipped"] = f"each [B, C, C] tensor is {pair_bytes / 1e12:.2f} TB, and it needs five"

    times: dict[str, list[float]] = {name: [] for name in runnable}
    order = random.Random(0)
    start = time.perf_counter()
    while len(times["torch KL"]) < 5 or time.perf_counter() - start < budget:
        for name in order.sample(runnable, len(runnable)):
            times[name].append(seconds(lambda name=name: step(CONTENDERS[name], inputs), device))
        if "pairwise IKL" in runnable and len(times["pairwise IKL"]) == 3:
            # It takes seconds where the others take microseconds: three times are enough, and cost no budget.
            runnable.remove("pairwise IKL")
            start = time.perf_counter()
    baseline = statistics.median(times["torch KL"])
    for name in times:
        median = statistics.median(times[name])
        rows[name] |= {
            "seconds": median,
            "repetitions": len(times[name]),
            "times_torch_kl": median / baseline,
            "peak_logit_tensors": rows[name]["peak_bytes"] / (4.0 * batch * classes),
        }
    return list(rows.values())


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of a copy of half a gigabyte."""
    source = torch.empty(1 << 27, device=device)
    target = torch.empty_like(source)
    times = [seconds(lambda: target.copy_(source) and None, device) for _ in range(20)]
    return 2 * source.numel() * 4 / statistics.median(times[5:])


def add_floor(rows: list[dict[str, Any]], bandwidth: float) -> None:
    for row in rows:
        if "seconds" in row:
            row["share_of_bandwidth_floor"] = 4 * 4 * row["batch"] * row["classes"] / bandwidth / row["seconds"]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'B x C':>13}  {'loss':<24}{'ms':>11}{'x torch KL':>12}{'peak MB':>11}{'x B*C floats':>14}"]
    for row in rows:
        head = f"{row['batch']:>5} x {row['classes']:<7} {row['loss']:<23}"
        if "skipped" in row:
            lines.append(f"{head}  skipped: {row['skipped']}")
            continue
        lines.append(
            f"{head}{1e3 * row['seconds']:>11.3f}{row['times_torch_kl']:>12.2f}"
            f"{row['peak_bytes'] / 1e6:>11.2f}{row['peak_logit_tensors']:>14.2f}"
        )
    return "\n".join(lines)


def goals(rows: list[dict[str, Any]], ladder: list[dict[str, Any]]) -> dict[str, float]:
    """The figures the losses are held to: the worst over all sizes with at least 1,000 classes."""
    large = [row for row in rows if row["classes"] >= 1000 and "seconds" in row]
    ours = [row for row in large if row["loss"].startswith("ours")]
    at_thousand = {row["loss"]: row["seconds"] for row in rows if (row["batch"], row["classes"]) == (128, 1000)}
    climb = [row for row in ladder if row["loss"] == "ours: IKL" and row["classes"] >= 1000]
    slope, _ = statistics.linear_regression(
        [math.log(row["classes"]) for row in climb], [math.log(row["seconds"]) for row in climb]
    )
    result = {
        "most_times_torch_kl_of_ikl": max(row["times_torch_kl"] for row in ours if "IKL" in row["loss"]),
        "most_times_torch_kl_of_gkl": max(row["times_torch_kl"] for row in ours if "GKL" in row["loss"]),
        "most_peak_logit_tensors_of_ikl_and_gkl": max(
            row["peak_logit_tensors"] for row in ours if row["loss"] != "ours: KL"
        ),
        "power_of_classes_in_time": slope,
    }
    if "pairwise IKL" in at_thousand:
        result["times_faster_than_pairwise_at_128x1000"] = at_thousand["pairwise IKL"] / at_thousand["ours: IKL"]
    return result


def draw_scaling(ladder: list[dict[str, Any]], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (time_axis, memory_axis) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in dict.fromkeys(row["loss"] for row in ladder):
        rows = [row for row in ladder if row["loss"] == name and "seconds" in row]
        classes = [row["classes"] for row in rows]
        time_axis.plot(classes, [1e3 * row["seconds"] for row in rows], marker="o", label=name)
        memory_axis.plot(classes, [row["peak_bytes"] / 1e6 for row in rows], marker="o", label=name)
    for axis, label in ((time_axis, "milliseconds, forward + backward"), (memory_axis, "peak extra memory, MB")):
        axis.set(xscale="log", yscale="log", xlabel=f"classes (batch of {ladder[0]['batch']})", ylabel=label)
        axis.grid(alpha=0.3)
    time_axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each size, after the warm-up")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    # glibc hands memory back to the system, to be faulted in again, until it has once seen a large block freed. In a
    # training step the model's activations have shown it one.
    torch.empty(31 << 18)

    rows: list[dict[str, Any]] = []
    for size in SIZES:
        rows += measure(size, list(CONTENDERS), device, options.seconds)
    ladder: list[dict[str, Any]] = []
    for size in LADDER:
        ladder += measure(size, ["torch KL", "ours: IKL", "pairwise IKL"], device, options.seconds / 3)
    suffix = "" if device.type == "cpu" else f"-{device.type}"
    report: dict[str, Any] = {
        "date": date.today().isoformat(),
        "device": device_name(device),
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "goals": goals(rows, ladder),
        "sizes": rows,
        "ladder": ladder,
    }
    if device.type == "cuda":
        report["copy_bytes_per_second"] = copy_bandwidth(device)
        add_floor(rows, report["copy_bytes_per_second"])
    print(table(rows))
    for name, value in report["goals"].items():
        print(f"{name.replace('_', ' ')}: {value:.4g}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"losses{suffix}.json").write_text(json.dumps(report, indent=1) + "\n")
    draw_scaling(ladder, RESULTS / f"losses{suffix}.png", f"{report['device']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
