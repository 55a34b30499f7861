"""How long `analyze` takes, and how much memory: by default 50 runs of 1000 classes and 50,000 test samples.

    python benchmarks/analysis.py                            # writes 5 GB of runs into a temporary folder first
    python benchmarks/analysis.py --runs 5 --samples 10000   # a smaller one

Half-precision logits, written uncompressed as training writes them (`numpy.savez`): deflating logits saves little and
makes reading several times slower. The analysis runs in a process of its own, whose peak memory is reported; what
takes how long is measured by wrapping its stages.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "analysis.json"
SEEDS = 5
LOSSES = ("ce", "kl", "dkd", "dkl", "ikl", "gkl", "js", "mse", "soft-ce", "focal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument(
        "--folder", type=Path, help="where to put the runs, and keep them; a temporary folder by default"
    )
    parser.add_argument("--analyze", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.analyze:
        print(json.dumps(measured(options.analyze)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        write_runs(folder, options.runs, options.classes, options.samples)
        words = [sys.executable, __file__, "--analyze", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    figures = {"runs": options.runs, "classes": options.classes, "samples": options.samples, "cores": os.cpu_count()}
    figures |= {"load": round(os.getloadavg()[0], 1), **json.loads(done.stdout.splitlines()[-1])}
    print(json.dumps(figures, indent=2))
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def write_runs(folder: Path, runs: int, classes: int, samples: int) -> None:
    """Runs of up to ten methods with five seeds, on a tail like ImageNet-LT's."""
    counts = np.maximum(5, 1280 * 256.0 ** -(np.arange(classes) / max(1, classes - 1))).astype(np.int64)
    labels = np.sort(np.arange(samples) % classes)
    tail = (np.log(counts / counts.max()) / 2).astype(np.float32)
    for number in range(runs):
        method, seed = divmod(number, SEEDS)
        place = folder / f"{LOSSES[method % len(LOSSES)]}-{method // len(LOSSES)}-seed{seed}"
        if (place / "result.json").exists():
            continue
        place.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(number)
        logits = np.empty((samples, classes), np.float16)
        for start in range(0, samples, 1000):
            rows = slice(start, start + 1000)
            noise = generator.standard_normal((len(labels[rows]), classes), np.float32) + tail
            noise[np.arange(len(noise)), labels[rows]] += 4 + 0.1 * method
            logits[rows] = noise
        write_run(place, logits, labels, counts, LOSSES[method % len(LOSSES)], method // len(LOSSES), seed)


def write_run(place: Path, logits: Any, labels: Any, counts: Any, loss: str, variant: int, seed: int) -> None:
    names = np.array([f"class {c}" for c in range(len(counts))])
    arrays = {"logits": logits, "labels": labels, "train_class_counts": counts, "class_names": names}
    np.savez(place / "predictions.npz", **arrays)
    identity = {"task": "longtail", "dataset": "imagenet-lt", "method": "cross-entropy", "loss": loss, "seed": seed}
    config = {**identity, "loss": {"name": loss, "beta": variant}}
    (place / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    lines = [json.dumps({"step": step, "train/loss": 1 / step, "eval/accuracy/all": 0.5}) for step in range(1, 100)]
    (place / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = {"schema": 1, **identity, "name": place.name, "status": "finished"}
    (place / "result.json").write_text(json.dumps(result), encoding="utf-8")


def measured(folder: Path) -> dict[str, Any]:
    """Seconds of the whole command and of its stages, and the process's peak memory."""
    started = time.perf_counter()
    sys.path.insert(0, str(ROOT))  # runs from a checkout that is not installed
    from tailmatch.analysis import analyze as stages
    from tailmatch.analysis.config import AnalyzeConfig

    seconds: dict[str, float] = {"import": time.perf_counter() - started}
    for name in ("read_runs", "differences_to", "write_figures", "compose_section", "write_tables", "write_report"):
        setattr(stages, name, timed(name, getattr(stages, name), seconds))
    stages.analyze(AnalyzeConfig(runs=(folder,), out=folder / "analysis"))
    seconds["total"] = time.perf_counter() - started
    seconds["processor"] = time.process_time()
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    return {"seconds": {name: round(value, 2) for name, value in seconds.items()}, "peak_memory_gb": round(peak_gb, 2)}


def timed(name: str, function: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments, **options)
        seconds[name] = time.perf_counter() - started
        return result

    return wrapper


if __name__ == "__main__":
    main()
