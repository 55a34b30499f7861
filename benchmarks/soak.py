"""Train small runs one after another in one process, and see whether its memory, open files or threads grow.

    python benchmarks/soak.py --minutes 45

A run of ssl and one of longtail in turn, each with its evaluations, checkpoints, pictures and curves, into a folder
that is removed again. After each run and a garbage collection, the process's resident memory, open files and threads
are read from /proc. Their slopes are those of a straight line through the means of twenty equal parts of the second
half: the first half is for what is loaded once. The record goes into results/reliability.json.
"""

import argparse
import gc
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from reliability import record

from tailmatch.cli import main as tailmatch
from tailmatch.ssl import train

PARTS = 20
MEASURED = ("resident_megabytes", "open_files", "threads")
LONGTAIL = ["longtail", "--dataset", "digits-lt", "--model", "cnn-digits", "--batch-size", "32", "--device", "cpu"]


def run_of(number: int, place: Path, steps: int) -> None:
    """The run of this number, into a new folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        if number % 2 == 0:
            train(
                loss="ikl", steps=steps, batch_size=8, seed=number, log_every=5, eval_every=steps // 2, device="cpu",
                out=Path(folder) / "run",
            )  # fmt: skip
            return
        own = ["--loss", "gkl", "--teacher-checkpoint", str(place / "teacher"), "--seed", str(number)]
        when = ["--steps", str(steps), "--log-every", "5", "--eval-every", str(steps // 2)]
        succeeded(tailmatch([*LONGTAIL, *own, *when, "--out", str(Path(folder) / "run")]))


def succeeded(code: int) -> None:
    if code:
        raise SystemExit(f"a run ended with code {code}")


def now() -> tuple[float, int, int]:
    """(Megabytes of resident memory, open files, threads.)"""
    gc.collect()
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    # Listing the open files opens one more.
    files, threads = len([*(own / "fd").iterdir()]) - 1, len([*(own / "task").iterdir()])
    return pages * resource.getpagesize() / 1e6, files, threads


def slope(values: Sequence[float]) -> tuple[float, float]:
    """(Rise for every 100 runs, its standard error), of the means of equal parts of the second half."""
    half = np.asarray(values[len(values) // 2 :], dtype=float)
    parts = np.array_split(half, PARTS)
    y = np.array([part.mean() for part in parts])
    x = np.array([part.mean() for part in np.array_split(np.arange(len(half)), PARTS)])
    about = x - x.mean()
    rise = (about * y).sum() / (about**2).sum()
    left = y - y.mean() - rise * about
    error = np.sqrt((left**2).sum() / (PARTS - 2) / (about**2).sum())
    return round(100 * float(rise), 4), round(100 * float(error), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--steps", type=int, default=20, help="of each run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seen: list[tuple[float, int, int]] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as base:
        place = Path(base)
        while time.monotonic() - begun < 60 * arguments.minutes or len(seen) < 2 * PARTS:
            with (place / "said").open("w") as said, redirect_stdout(said), redirect_stderr(said):
                if not seen:
                    succeeded(tailmatch([*LONGTAIL, "--steps", "40", "--out", str(place / "teacher")]))
                run_of(len(seen), place, arguments.steps)
            seen.append(now())
            if len(seen) % 50 == 0:
                print(f"{len(seen):>6} runs  " + "  ".join(f"{x:.1f}" for x in seen[-1]), flush=True)
    found: dict[str, object] = {
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "runs": len(seen),
        "steps_of_each": arguments.steps,
    }
    for name, values in zip(MEASURED, zip(*seen, strict=True), strict=True):
        rise, error = slope(values)
        half = len(values) // 2
        found[name] = {
            "after_the_first_run": round(values[0], 1),
            "after_half": round(values[half], 1),
            "at_the_end": round(values[-1], 1),
            "most": round(max(values), 1),
            "rise_per_100_runs": rise,
            "standard_error": error,
        }
    record("soak", found)
    for name in MEASURED:
        print(name, found[name])


if __name__ == "__main__":
    main()
