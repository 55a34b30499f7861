"""Kill runs and suites at random moments, again and again, and compare their end with that of the same left in peace.

    python benchmarks/kill_and_resume.py --kills 100

Two in five fall on a run of ssl, two on one of longtail (which trains its teacher first), one on a suite of four runs.
Each is a SIGKILL of all their processes, within milliseconds of a random step, and counts only where it hit a run that
had gone on and was not finished; then the same command goes on. Weights, accuracies and metrics have to be equal to the
last bit. The record goes into results/reliability.json, where those of another kind (--of) stay as they are.

They are spread over all steps: before each kill the processes may do a random number of them, on average so many that
the last kill falls near the end. The smallest networks will do, since what is killed is the loop around them. Every
process is a fork of this one, which has done the imports and nothing else: those are most of a life otherwise. The runs
of a suite are programs of their own, as always.
"""

import argparse
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from statistics import fmean
from typing import Any

import sklearn.datasets  # noqa: F401
import torch._dynamo
import torch.utils.tensorboard  # noqa: F401
from reliability import ROOT, record, recorded

import tailmatch.longtail.command
import tailmatch.ssl.command  # noqa: F401
from tailmatch.cli import main as tailmatch_main

TIMINGS = ("seconds", "train/images_per_second")
SUITE = """task: ssl
seeds: [0]
options: {dataset: digits-lt, batch_size: 8, steps: STEPS, log_every: 1, checkpoint_every: 5}
runs:
  - algorithm: [fixmatch, freematch]
    add_on: [null, daso]
"""
SHARES = {"ssl": 2, "longtail": 2, "suite": 1}
TINY = ["--model", "cnn-digits", "--teacher", "cnn-digits", "--batch-size", "32"]


def command(kind: str, steps: int, place: Path) -> list[str]:
    common = ["--log-every", "1", "--checkpoint-every", "5"]
    common += ["--threads", "1", "--device", "cpu", "--out", str(place / "run"), "--resume"]
    if kind == "ssl":
        return ["ssl", "--loss", "ikl", "--batch-size", "8", "--steps", str(steps), *common]
    if kind == "longtail":
        words = ["--dataset", "digits-lt", "--loss", "gkl", "--label-loss", "ldam", "--drw", "0.5"]
        return ["longtail", *words, *TINY, "--steps", str(steps), *common]
    (place / "small.yaml").write_text(SUITE.replace("STEPS", str(steps)))
    return ["suite", str(place / "small.yaml"), "--jobs", "1", "--threads", "1", "--out", str(place / "suite")]


def run_folders(place: Path) -> list[Path]:
    return sorted(path.parent for path in place.rglob("config.yaml") if (path.parent / "checkpoints").is_dir())


def rows(run: Path) -> list[dict[str, float]]:
    """The whole rows of metrics.jsonl so far."""
    path = run / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def status(run: Path) -> str:
    try:
        return str(json.loads((run / "result.json").read_text())["status"])
    except (OSError, ValueError, KeyError):
        return "begun"


def newest_checkpoint(run: Path) -> int:
    return max((int(path.name[5:13]) for path in (run / "checkpoints").glob("step_*")), default=0)


class Look:
    """How far the runs of a place had come when a process was started there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        # Metrics are a new file once a run has gone on, which holds the steps up to its newest checkpoint at first.
        self.files = {run: self._file(run) for run in run_folders(place)}
        self.steps = {run: newest_checkpoint(run) for run in self.files}

    def own_steps(self) -> dict[Path, int]:
        """What the process has done itself, of each run that it has touched."""
        found = {}
        for run in run_folders(self.place):
            steps = rows(run)[-1:] if self._file(run) != self.files.get(run) else []
            if steps and steps[0]["step"] > self.steps.get(run, 0):
                found[run] = int(steps[0]["step"]) - self.steps.get(run, 0)
        return found

    @staticmethod
    def _file(run: Path) -> int | None:
        path = run / "metrics.jsonl"
        return path.stat().st_ino if path.exists() else None


def family(process: int) -> list[int]:
    """A process and all that it has started, the eldest first."""
    children = Path(f"/proc/{process}/task/{process}/children")
    try:
        found = [int(child) for child in children.read_text().split()]
    except OSError:  # it has just ended
        found = []
    return [process, *(one for child in found for one in family(child))]


def forked(words: list[str], said: int) -> int:
    """The number of a process that carries out this command line, and says what it says there."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.setsid()
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.argv = [str(ROOT / "run.py"), *words]  # what a suite starts its runs with
            code = tailmatch_main(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return process


def live(words: list[str], place: Path, after: int | None, draw: random.Random) -> dict[str, Any] | None:
    """Start or go on, and kill all of it after so many steps of its own; None where it came to its end."""
    look, begun = Look(place), time.perf_counter()
    ended = 0
    with tempfile.TemporaryFile("w+") as said:
        process = forked(words, said.fileno())
        while not ended:
            if after is not None and sum(look.own_steps().values()) >= after:
                time.sleep(draw.uniform(0.0, 0.05))  # anywhere within a step, an evaluation or a checkpoint
                for number in family(process):
                    os.kill(number, signal.SIGKILL)
                break
            time.sleep(0.02)
            ended, state = os.waitpid(process, os.WNOHANG)
        code = os.waitstatus_to_exitcode(state if ended else os.waitpid(process, 0)[1])
        if code not in (0, -signal.SIGKILL):
            said.seek(0)
            raise SystemExit(f"it ended by itself with code {code}:\n{said.read()}")
    if code == 0:
        return None
    hit = [run for run in look.own_steps() if status(run) != "finished"]
    return {
        "runs_hit": {str(run.relative_to(place)): rows(run)[-1]["step"] for run in hit},
        "seconds": round(time.perf_counter() - begun, 1),
    }


def what_is_left(place: Path) -> dict[str, object]:
    runs = {str(run.relative_to(place)): run for run in run_folders(place)}
    results = {name: json.loads((run / "result.json").read_text()) for name, run in runs.items()}
    timeless = {
        name: [{tag: value for tag, value in row.items() if tag not in TIMINGS} for row in rows(run)]
        for name, run in runs.items()
    }
    return {
        "finished": {name: result["status"] for name, result in results.items()},
        "weights": {name: (run / "weights.safetensors").read_bytes() for name, run in runs.items()},
        "accuracies": {name: result["accuracy"] for name, result in results.items()},
        "metrics": timeless,
        "half-written files": [str(path) for path in place.rglob("*.tmp")],
    }


def tried(kind: str, kills: int, steps: int, base: Path, draw: random.Random) -> dict[str, Any]:
    peaceful, killed = base / f"{kind}-peaceful", base / f"{kind}-killed"
    for place in (peaceful, killed):
        place.mkdir()
    live(command(kind, steps, peaceful), peaceful, None, draw)
    words, missed = command(kind, steps, killed), 0
    hits: list[dict[str, Any]] = []
    whole = sum(len(rows(run)) for run in run_folders(peaceful))
    while len(hits) < kills:
        ahead = whole - sum(newest_checkpoint(run) for run in run_folders(killed))
        # Twice the mean; four lives more than there are kills, so that the last of them does not come to the end.
        longest = max(2 * ahead // (kills - len(hits) + 4), 2)
        found = live(words, killed, draw.randint(1, longest), draw)
        if found is None:
            raise SystemExit(f"{kind} ended after {len(hits)} kills; take more --steps")
        if not found["runs_hit"]:
            missed += 1
            continue
        hits.append(found)
        print(f"{kind:<10}kill {len(hits):>3}  {found['runs_hit']}  {found['seconds']} s", flush=True)
    live(words, killed, None, draw)
    one, other = what_is_left(peaceful), what_is_left(killed)
    equal = {name: one[name] == other[name] for name in one}
    print(f"{kind:<10}" + ", ".join(f"{name} {'equal' if same else 'DIFFERENT'}" for name, same in equal.items()))
    hit_at: dict[str, list[int]] = {}
    for hit in hits:
        for run, step in hit["runs_hit"].items():
            hit_at.setdefault(run, []).append(step)
    seconds = round(fmean(hit["seconds"] for hit in hits), 1)
    runs = len(run_folders(killed))
    return {"kills": len(hits), "missed": missed, "runs": runs, "equal": equal, "seconds": seconds, "hit_at": hit_at}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="over all of them")
    parser.add_argument("--of", nargs="+", default=list(SHARES), choices=list(SHARES), help="what is killed")
    parser.add_argument("--steps", type=int, default=400, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments to kill at")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as base:
        parts, left = sum(SHARES[kind] for kind in arguments.of), arguments.kills
        for kind in arguments.of:
            kills = min(-(-arguments.kills * SHARES[kind] // parts), left)
            left -= kills
            found[kind] = tried(kind, kills, arguments.steps, Path(base), draw)
    others = recorded("kill -9").get("of", {})
    whole = others | {kind: {"command": shlex.join(["python", *sys.argv]), **one} for kind, one in found.items()}
    record("kill -9", {"kills": sum(kind["kills"] for kind in whole.values()), "of": whole})
    return 0 if all(all(kind["equal"].values()) for kind in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
