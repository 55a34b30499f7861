"""Run folders in the documented format, made from a seed: what the analysis reads without training anything.

The logits imitate a long-tailed classifier: the signal for a class and its bias both grow with the logarithm of its
training count, so that few-shot classes are worse and leak into the head, as they do in real runs.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from safetensors.numpy import save_file

from tailmatch.analysis.groups import class_tags

Array = npt.NDArray[np.float32]
FEATURES = 16
GROUPS = ("many", "medium", "few")


def long_tail_counts(classes: int, largest: int, imbalance: float) -> npt.NDArray[np.int64]:
    """Exponentially falling training counts, truncated, as in CIFAR-LT."""
    share = np.arange(classes) / max(classes - 1, 1)
    return (largest * imbalance**-share).astype(np.int64)


def group_ids(counts: npt.NDArray[np.int64]) -> dict[str, list[int]]:
    """The default rule: > 100, 20 to 100, < 20; no groups where all counts are equal."""
    if len(set(counts.tolist())) == 1:
        return {group: [] for group in GROUPS}
    many, few = counts > 100, counts < 20
    return {
        "many": np.flatnonzero(many).tolist(),
        "medium": np.flatnonzero(~many & ~few).tolist(),
        "few": np.flatnonzero(few).tolist(),
    }


def make_logits(
    labels: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], generator: np.random.Generator, tail_skill: float
) -> Array:
    """Logits whose accuracy falls with rarity; `tail_skill` 0 forgets the tail, 1 treats every class alike."""
    samples, classes = len(labels), len(counts)
    rarity = np.log(counts.max() / np.maximum(counts, 1)) / np.log(100)
    logits = generator.standard_normal((samples, classes), dtype=np.float32) * 1.5
    logits -= ((1 - tail_skill) * 2.2 * rarity).astype(np.float32)
    signal = 2.4 + 0.45 * np.log(classes) - (1 - tail_skill) * 1.6 * rarity[labels]
    logits[np.arange(samples), labels] += (signal + generator.normal(0, 0.8, samples)).astype(np.float32)
    return logits


def group_accuracy(
    logits: Array, labels: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> dict[str, float | None]:
    """Mean of the class accuracies of each group; None where a group is empty."""
    correct = logits.argmax(1) == labels
    hits = np.bincount(labels, weights=correct, minlength=len(counts))
    tested = np.bincount(labels, minlength=len(counts))
    accuracy = hits / np.maximum(tested, 1)
    result: dict[str, float | None] = {"all": float(correct.mean())}
    for group, ids in group_ids(counts).items():
        kept = [c for c in ids if tested[c]]
        result[group] = float(accuracy[kept].mean()) if kept else None
    return result


def write_run(
    folder: Path,
    *,
    method: str = "ce",
    loss: str = "ce",
    task: str = "longtail",
    seed: int = 0,
    dataset: str = "digits",
    counts: Sequence[int] | npt.NDArray[np.int64] | None = None,
    class_names: Sequence[str] | None = None,
    tests_per_class: int | Sequence[int] = 30,
    tail_skill: float = 0.3,
    teacher: bool = False,
    class_means: bool = False,
    weights: bool = True,
    steps: int = 2000,
    status: str = "finished",
    half: bool = False,
) -> Path:
    """Write one whole run folder and return it; without any `class_names` the classes have none."""
    folder.mkdir(parents=True, exist_ok=True)
    # The run's own seed makes its logits; the test labels are the same for every run, as they are in a real suite.
    generator = np.random.default_rng([seed, int(1000 * tail_skill), *f"{method} {loss}".encode()])
    counts_C = np.asarray(long_tail_counts(10, 500, 100) if counts is None else counts, dtype=np.int64)
    classes = len(counts_C)
    names = [f"class {c}" for c in range(classes)] if class_names is None else list(class_names)
    labels = np.repeat(np.arange(classes, dtype=np.int64), tests_per_class)
    logits = make_logits(labels, counts_C, generator, tail_skill)
    arrays: dict[str, npt.NDArray] = {
        "logits": logits.astype(np.float16 if half else np.float32),
        "labels": labels,
        "train_class_counts": counts_C,
    }
    if names:
        arrays["class_names"] = np.array(names)
    accuracy = group_accuracy(logits, labels, counts_C)
    result: dict = {
        "schema": 1, "task": task, "name": folder.name, "status": status, "dataset": dataset,
        "algorithm" if task == "ssl" else "method": method, "loss": loss, "model": "wrn_16_2", "seed": seed,
        "accuracy": dict.fromkeys(("last", "best", "median_of_last_20"), accuracy),
        "groups": {"rule": "default", **group_ids(counts_C)},
        "steps": steps, "seconds": 61.5 + seed, "images_per_second": 4200.0,
    }  # fmt: skip
    if teacher:
        teacher_logits = make_logits(labels, counts_C, np.random.default_rng(99), 0.5)
        teacher_logits[np.arange(len(labels)), labels] += 0.8
        arrays["logits"] = (0.65 * logits + 0.6 * teacher_logits).astype(arrays["logits"].dtype)
        arrays["teacher_logits"] = teacher_logits.astype(arrays["logits"].dtype)
        result["teacher"] = {"name": "wrn_40_2", "checkpoint": "teacher.safetensors", "accuracy": accuracy}
    np.savez(folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
    (folder / "result.json").write_text(json.dumps(result))
    config = {"task": task, "dataset": dataset, "model": "wrn_16_2", "seed": seed, "lr": 0.03, "steps": steps}
    config["algorithm" if task == "ssl" else "method"] = method
    config["loss"] = {"name": loss, **({"beta": 0.1} if loss in ("ikl", "gkl") else {})}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_environment(folder, seed)
    # Where the classes have names of their own, tags have them; else their numbers, as in runs of old.
    tags = class_tags(names) if class_names else [f"class_{c}" for c in range(classes)]
    write_metrics(folder, accuracy, counts_C, generator, tags=tags if task == "ssl" else None, steps=steps)
    if weights:
        norms = 0.6 + (1 - tail_skill) * 0.5 * np.log(np.maximum(counts_C, 1)) / np.log(counts_C.max())
        head = generator.standard_normal((classes, FEATURES)).astype(np.float32)
        head *= (norms / np.linalg.norm(head, axis=1))[:, None].astype(np.float32)
        save_file(
            {"conv.weight": np.zeros((4, 3, 3, 3), np.float32), "head.weight": head,
             "head.bias": np.zeros(classes, np.float32)},
            folder / "weights.safetensors",
        )  # fmt: skip
    if class_means:
        write_class_means(folder, counts_C, generator, steps)
    return folder


def write_environment(folder: Path, seed: int) -> None:
    environment = {
        "schema": 1, "versions": {"python": "3.12.4", "torch": "2.13.0", "numpy": "2.4.6", "tailmatch": "0.1.0"},
        "device": "cpu", "threads": 2, "commit": "0123abc", "seed": seed, "split_fingerprint": "f00d",
        "command": f"python run.py longtail --seed {seed}", "started": "2025-01-01T00:00:00",
    }  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))


def write_metrics(
    folder: Path,
    accuracy: dict[str, float | None],
    counts: npt.NDArray[np.int64],
    generator: np.random.Generator,
    *,
    tags: Sequence[str] | None,
    steps: int,
) -> None:
    """Twenty evaluations that rise to the final accuracy, with the SSL curves where the task has them."""
    lines = []
    for step in np.linspace(steps / 20, steps, 20).astype(int):
        progress = float(1 - np.exp(-4 * step / steps)) / (1 - np.exp(-4))
        row: dict[str, float | int | None] = {"step": int(step), "seconds": 60 * float(step / steps)}
        row["train/loss"] = 2.2 - 1.7 * progress + float(generator.normal(0, 0.03))
        row["train/lr"] = 0.03 * float(np.cos(7 * np.pi * step / (16 * steps)))
        for group, value in accuracy.items():
            row[f"eval/accuracy/{group}"] = None if value is None else value * progress
            if tags:
                ease = {"all": 0.8, "many": 0.95, "medium": 0.75, "few": 0.45}[group]
                jitter = float(generator.normal(0, 0.008))
                row[f"ssl/utilisation/{group}"] = None if value is None else ease * progress + jitter
                row[f"ssl/pseudo_label_accuracy/{group}"] = (
                    None if value is None else min(1, 0.55 + 0.4 * ease + jitter)
                )
        if tags:
            row["ssl/threshold/mean"] = 0.95 * (0.4 + 0.6 * progress)
            for tag, count in zip(tags, counts, strict=True):
                row[f"ssl/threshold/{tag}"] = 0.95 * (0.4 + 0.6 * progress * float(count / counts.max()) ** 0.2)
                row[f"ssl/pseudo_label_accuracy/{tag}"] = 0.9 * progress
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def write_class_means(folder: Path, counts: npt.NDArray[np.int64], generator: np.random.Generator, steps: int) -> None:
    """A checkpoint that holds the class means: rows lean towards the head, the more so the rarer the class."""
    classes = len(counts)
    rarity = np.log(counts.max() / np.maximum(counts, 1))
    scores = generator.normal(0, 0.6, (classes, classes)) - 0.35 * rarity[None, :]
    scores[np.arange(classes), np.arange(classes)] += 4 + 0.5 * np.log(classes) - 0.3 * rarity
    means = np.exp(scores - scores.max(1, keepdims=True))
    means /= means.sum(1, keepdims=True)
    place = folder / "checkpoints"
    place.mkdir(exist_ok=True)
    save_file(
        {"task.loss.class_means.means": means.astype(np.float32)},
        place / f"step_{steps}.safetensors",
        metadata={"state": json.dumps({"step": steps})},
    )
