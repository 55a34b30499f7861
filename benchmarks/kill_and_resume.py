"""Kill a run at random steps, again and again, and compare its end with that of a run left in peace.

    python benchmarks/kill_and_resume.py --kills 20 --steps 400

Every kill is a SIGKILL at a random moment after the run has gone on by a random number of steps; then the same command
with `--resume` goes on. Weights, accuracies and metrics have to be equal to the last bit.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "kill_and_resume.json"
TIMINGS = ("seconds", "train/images_per_second")


def command(arguments: argparse.Namespace, out: Path) -> list[str]:
    words = ["ssl", "--loss", arguments.loss, "--threads", "1", "--device", "cpu", "--steps", str(arguments.steps)]
    words += [
        "--batch-size",
        str(arguments.batch_size),
        "--log-every",
        "1",
        "--checkpoint-every",
        str(arguments.checkpoint_every),
    ]
    return [sys.executable, str(ROOT / "run.py"), *words, "--out", str(out), "--resume"]


def start(arguments: argparse.Namespace, out: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(arguments, out), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def rows(out: Path) -> list[dict[str, float]]:
    """The whole rows of metrics.jsonl so far."""
    path = out / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def file_number(out: Path) -> int | None:
    path = out / "metrics.jsonl"
    return path.stat().st_ino if path.exists() else None


def newest_checkpoint(out: Path) -> int:
    return max((int(path.name[5:13]) for path in (out / "checkpoints").glob("step_*")), default=0)


def last_step(out: Path) -> int:
    found = rows(out)
    return int(found[-1]["step"]) if found else 0


def run_on(
    arguments: argparse.Namespace, out: Path, until: int | None, draw: random.Random
) -> dict[str, object] | None:
    """Go on with the run and kill it once it has logged step `until`; None where it came to its end before."""
    begun, before, first = time.perf_counter(), file_number(out), newest_checkpoint(out) + 1
    process = start(arguments, out)
    while process.poll() is None:
        # The metrics are a new file once the run has gone on; at least one step is to be its own.
        if until is not None and file_number(out) != before and last_step(out) >= max(until, first):
            time.sleep(draw.uniform(0.0, 0.05))  # anywhere within a step, an evaluation or a checkpoint
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    printed = process.communicate()[0]
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"the run ended by itself with code {process.returncode}:\n{printed}")
    return {
        "killed_at": last_step(out),
        "goes_on_at": newest_checkpoint(out),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def what_is_left(out: Path) -> dict[str, object]:
    result = json.loads((out / "result.json").read_text())
    return {
        "weights": (out / "weights.safetensors").read_bytes(),
        "accuracies": result["accuracy"],
        "metrics": [{tag: value for tag, value in row.items() if tag not in TIMINGS} for row in rows(out)],
        "half-written files": [path.name for path in out.rglob("*.tmp")],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--checkpoint-every", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--loss", default="ikl")
    parser.add_argument("--seed", type=int, default=0, help="of the moments to kill at")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    targets = sorted(draw.sample(range(1, arguments.steps * 9 // 10), arguments.kills))
    with tempfile.TemporaryDirectory() as place:
        peaceful, killed = Path(place) / "peaceful", Path(place) / "killed"
        run_on(arguments, peaceful, None, draw)
        kills = []
        print(f"{'kill':>5}{'at step':>9}{'goes on at':>12}{'seconds':>9}")
        for number, target in enumerate(targets, start=1):
            # The steps since the last checkpoint are done again, and the target counts from there.
            kill = run_on(arguments, killed, target, draw)
            if kill is None:
                raise SystemExit(f"the run ended before kill {number}; take more --steps")
            kills.append(kill)
            print(f"{number:>5}{kill['killed_at']:>9}{kill['goes_on_at']:>12}{kill['seconds']:>9}", flush=True)
        run_on(arguments, killed, None, draw)
        one, other = what_is_left(peaceful), what_is_left(killed)
    equal = {name: one[name] == other[name] for name in one}
    for name, same in equal.items():
        print(f"{name:<20}{'equal' if same else 'DIFFERENT'}")
    record = {
        "what": "kill -9 at random steps of one run, --resume each time, against the same run left in peace",
        "command": "python run.py " + " ".join(command(arguments, Path("DIR"))[2:]),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "equal": equal,
        "accuracy": one["accuracies"],
        "kills": kills,
    }
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0 if all(equal.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
