"""Seconds and peak memory of a whole distillation step, for every method, on a pair of CIFAR-100 and one of ImageNet.

    python benchmarks/distillation_step.py                      # one CPU thread; ImageNet's pair at 64 pixels
    python benchmarks/distillation_step.py --device cuda        # the published batches and 224 pixels
    python benchmarks/distillation_step.py --beside MDISTILLER  # and a checkout of megvii-research/mdistiller's steps

The step is what `run.py distill` takes: the teacher's forward, the student's, both losses, class means, backward, SGD
with momentum for the student and for what the method trains. All steps run on the same batch in one process;
repetitions alternate in a changing order, so that whatever else the machine does falls on all of them, and medians are
reported, by processor time on one CPU thread and by events on a GPU. A method's ratio to KD is the median of the ratios
of each round. Peak memory is what was allocated at most beyond the networks, optimizers and images, one step alone.

mdistiller's steps are its own classes around its own networks, beside ours in the same rounds; its loader draws CRD's
negatives, which is not in its time and is in ours. Written to results/distillation_step.json, .md and .png
(-cuda on a GPU).
"""

import argparse
import json
import os
import random
import statistics
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports every start and stop otherwise

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from benchmarks.losses import device_name, peak_bytes, seconds
from benchmarks.mdistiller_step import mdistiller_step
from tailmatch.distill import FEATURE_METHODS, build_feature_method
from tailmatch.distill.catalog import loss_of
from tailmatch.distill.features.step import FeatureDistillation
from tailmatch.distill.presets import published
from tailmatch.distill.step import Distillation, FrozenTeacher
from tailmatch.engine.device import Autocast
from tailmatch.engine.optim import build_optimizer
from tailmatch.engine.options import OptimOptions
from tailmatch.engine.profile import Profile
from tailmatch.losses import build_label_loss, build_loss
from tailmatch.models import build_model

RESULTS = Path(__file__).parent / "results"
METHODS = ("kd", "dkd", "dkl", "ikl", "gkl", "dist", *FEATURE_METHODS)
OF_THE_STEP = ("label_weight", "kd_weight", "kd_warmup_epochs")
Step = Callable[[], None]


class Pair(NamedTuple):
    """Two networks, and what they see."""

    dataset: str
    teacher: str
    student: str
    classes: int
    images: int
    batch: int
    pixels: int


PAIRS = {
    "cuda": (
        Pair("cifar100", "resnet32x4", "resnet8x4", 100, 50_000, 64, 32),
        Pair("imagenet", "resnet34", "resnet18", 1000, 1_281_167, 512, 224),
    ),
    "cpu": (
        Pair("cifar100", "resnet32x4", "resnet8x4", 100, 50_000, 64, 32),
        Pair("imagenet", "resnet34", "resnet18", 1000, 1_281_167, 32, 64),
    ),
}


class Batch(NamedTuple):
    images: Tensor
    labels: Tensor
    index: Tensor
    train_labels: Tensor


def draw(pair: Pair, device: torch.device) -> Batch:
    torch.manual_seed(0)
    train_labels = torch.randint(pair.classes, (pair.images,), device=device)
    index = torch.randperm(pair.images, device=device)[: pair.batch]
    images = torch.randn(pair.batch, 3, pair.pixels, pair.pixels, device=device)
    return Batch(images, train_labels[index], index, train_labels)


def our_step(name: str, pair: Pair, batch: Batch, teacher: nn.Module, precision: str) -> Step:
    """One step of ours as a call."""
    device = batch.images.device
    student = build_model(pair.student, pair.classes).to(device)
    constants = published(pair.dataset, pair.teacher, pair.student, name, standardised=False)
    weights = {"label_weight": constants.get("label_weight", 1.0), "kd_weight": constants.get("kd_weight", 1.0)}
    options = {option: value for option, value in constants.items() if option not in OF_THE_STEP}
    label_loss = build_label_loss("cross-entropy", [1] * pair.classes).to(device)
    autocast = Autocast.pick(precision, device)
    frozen = FrozenTeacher(teacher, autocast)
    method: Distillation | FeatureDistillation
    if name in FEATURE_METHODS:
        compares = build_feature_method(name, student, teacher, batch.images[:1], batch.train_labels, **options)
        method = FeatureDistillation(frozen, student, label_loss, compares, **weights)
    else:
        loss = build_loss(loss_of(name), pair.classes, **options).to(device)
        method = Distillation(frozen, label_loss, loss, **weights)
    optimizer = build_optimizer([*student.parameters(), *method.parameters()], OptimOptions(lr=1e-4))
    profile = Profile(False, device)
    student.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            losses = method(student, batch.images, batch.labels, profile, batch.index)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return step


def measure(pair: Pair, options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    batch = draw(pair, device)
    teacher = build_model(pair.teacher, pair.classes).to(device).eval()
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    steps: dict[tuple[str, str], Step] = {}
    makers = {"ours": lambda name: our_step(name, pair, batch, teacher, options.precision)}
    if options.beside is not None:
        makers["mdistiller"] = lambda name: mdistiller_step(options.beside, name, pair, batch)
    for code, make in makers.items():
        for name in options.methods:
            rows[code, name] = {"pair": f"{pair.teacher} to {pair.student}", "code": code, "method": name}
            try:
                step = make(name)
                step()  # warm up: allocator, kernels, the optimizer's buffers
                rows[code, name]["peak_bytes"] = peak_bytes(step, device)
            except (RuntimeError, KeyError, NotImplementedError) as error:
                if code == "ours":
                    raise
                rows[code, name]["skipped"] = str(error).splitlines()[0][:120]
                continue
            steps[code, name] = step
    times: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    order = random.Random(0)
    for _ in range(options.repeats):
        for key in order.sample(list(steps), len(steps)):
            times[key].append(seconds(steps[key], device))
    for (code, name), found in times.items():
        base = times[code, "kd"]
        rows[code, name] |= {
            "seconds": statistics.median(found),
            "times_kd": statistics.median(own / kd for own, kd in zip(found, base, strict=True)),
            "seconds_over_kd": statistics.median(own - kd for own, kd in zip(found, base, strict=True)),
        }
    return list(rows.values())


def goals(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the steps are held to: the losses within 2 % of KD's step, features over KD no more than mdistiller's."""
    found: dict[str, dict[str, Any]] = {}
    for pair in dict.fromkeys(row["pair"] for row in rows):
        of = {(row["code"], row["method"]): row for row in rows if row["pair"] == pair and "seconds" in row}
        held: dict[str, Any] = {
            f"{name}_times_kd": of["ours", name]["times_kd"] for name in ("ikl", "gkl") if ("ours", name) in of
        }
        for name in FEATURE_METHODS:
            if ("ours", name) in of and ("mdistiller", name) in of:
                ours, theirs = (of[code, name]["seconds_over_kd"] for code in ("ours", "mdistiller"))
                held[f"{name}_over_kd"] = {"ours": ours, "mdistiller": theirs, "no_larger": ours <= theirs}
        found[pair] = held
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| pair | code | method | ms a step | x KD | over KD, ms | peak MB |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        head = f"| {row['pair']} | {row['code']} | {row['method']} |"
        if "skipped" in row:
            lines.append(f"{head} not run: {row['skipped']} | | | |")
            continue
        over = 1e3 * row["seconds_over_kd"]
        lines.append(
            f"{head} {1e3 * row['seconds']:.1f} | {row['times_kd']:.3f} | {over:.1f} | {row['peak_bytes'] / 1e6:.0f} |"
        )
    return "\n".join(lines)


def chart(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    figure, axes = pyplot.subplots(2, len(pairs), figsize=(6 * len(pairs), 8), layout="constrained", squeeze=False)
    quantities = (("times_kd", 1.0, "step, times KD's"), ("peak_bytes", 1e-6, "peak memory, MB"))
    for column, pair in enumerate(pairs):
        of_pair = [row for row in rows if row["pair"] == pair and "seconds" in row]
        names, codes = (list(dict.fromkeys(row[key] for row in of_pair)) for key in ("method", "code"))
        for axis, (key, scale, label) in zip(axes[:, column], quantities, strict=True):
            for shift, code in enumerate(codes):
                places = [names.index(row["method"]) + 0.4 * shift for row in of_pair if row["code"] == code]
                heights = [scale * row[key] for row in of_pair if row["code"] == code]
                axis.bar(places, heights, width=0.38, label=code)
            axis.set(ylabel=label, title=pair)
            axis.set_xticks([place + 0.2 * (len(codes) - 1) for place in range(len(names))], names, rotation=60)
            axis.grid(axis="y", alpha=0.3)
            axis.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--pairs", nargs="+", choices=("cifar100", "imagenet"), default=["cifar100", "imagenet"])
    parser.add_argument("--batch", type=int, help="instead of each pair's own")
    parser.add_argument("--pixels", type=int, help="instead of the ImageNet pair's own")
    parser.add_argument("--precision", default="fp32", help="of our steps; mdistiller's are in fp32")
    parser.add_argument("--beside", type=Path, help="a checkout of mdistiller, whose steps are measured too")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the records go")
    options = parser.parse_args()
    options.methods = list(dict.fromkeys(["kd", *options.methods]))  # all others are beside it
    return options


def main() -> None:
    options = arguments()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    pairs = [pair for pair in PAIRS[device.type] if pair.dataset in options.pairs]
    pairs = [pair._replace(batch=options.batch or pair.batch) for pair in pairs]
    if options.pixels is not None:
        pairs = [pair if pair.dataset == "cifar100" else pair._replace(pixels=options.pixels) for pair in pairs]
    rows = [row for pair in pairs for row in measure(pair, options, device)]
    shapes = [f"{pair.teacher} to {pair.student}: batch {pair.batch}, {pair.pixels} pixels" for pair in pairs]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device_name(device)}, 1 thread"
    title = f"{name}, torch {torch.__version__}, {options.precision}; {'; '.join(shapes)}"
    text = f"{title}; median of {options.repeats}\n\n{table(rows)}\n"
    print(text)
    print(json.dumps(goals(rows), indent=2))
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"distillation_step{'-cuda' if device.type == 'cuda' else ''}"
    record = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "device": name,
        "precision": options.precision,
        "repeats": options.repeats,
        "pairs": [pair._asdict() for pair in pairs],
        "goals": goals(rows),
        "rows": rows,
    }
    stem.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    stem.with_suffix(".md").write_text(text)
    chart(rows, stem.with_suffix(".png"), f"A step of distillation, {name}")


if __name__ == "__main__":
    main()
