"""Every long-tail method over several seeds: the results table of the documentation.

    python benchmarks/longtail_results.py --jobs 2         # digits-LT, five seeds, two of them at a time
    python benchmarks/longtail_results.py --only kl ikl    # some methods
    python benchmarks/longtail_results.py --dataset npz --data-root FILE.npz --imbalance 50 --name cifar-mini \
        --model wrn-10-2-relu --teacher wrn-16-2-relu --epochs 40

Each method is one ordinary run of `longtail` for each seed, in runs/longtail-results/<name>/seed<s>/<method>. A run
that is finished is taken as it is and one that was cut off goes on, so the command may be stopped and called again.
Accuracies are those of the last epoch on the test images, in per cent, mean and standard deviation over the seeds:
nothing is chosen on the test set. The table goes to results/longtail_<name>.md, with the command, the versions and the
time, and every seed's numbers to .json beside it.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.cli import main as tailmatch

RESULTS = Path(__file__).parent / "results"
RUNS = Path("runs") / "longtail-results"
GROUPS = ("many", "medium", "few", "all")
_BALANCED = "--label-loss balanced-softmax"
_SPACE = f"{_BALANCED} --prior-tau 1"

# name: (what the table says, the words after `longtail`); STAGE1 stands for the run of cross-entropy of the same seed.
METHODS: dict[str, tuple[str, str]] = {
    "ce": ("cross-entropy", ""),
    "class-balanced": ("class-balanced re-weighting", "--label-loss class-balanced"),
    "square-root": ("square-root sampling", "--sampler square-root"),
    "balanced-sampling": ("class-balanced sampling", "--sampler class-balanced"),
    "focal": ("focal", "--label-loss focal"),
    "ldam-drw": ("LDAM + DRW", "--label-loss ldam --drw 0.8"),
    "balanced-softmax": ("Balanced Softmax", _BALANCED),
    "post-hoc": ("post-hoc logit adjustment", "--post-hoc-tau 1"),
    "crt": ("cRT", "--stage2 crt --stage1 STAGE1"),
    "lws": ("LWS", "--stage2 lws --stage1 STAGE1"),
    "tau-norm": ("tau-norm", "--stage2 tau-norm --stage1 STAGE1"),
    "ncm": ("NCM", "--stage2 ncm --stage1 STAGE1"),
    "kl": ("KL", "--loss kl"),
    "ikl": ("IKL", "--loss ikl"),
    "gkl": ("GKL", "--loss gkl"),
    "dkd": ("DKD", "--loss dkd"),
    "tail-kl": ("Balanced Softmax + KL, prior-adjusted", f"{_SPACE} --loss kl"),
    "tail-ikl": ("Balanced Softmax + IKL, prior-adjusted (tail-aware)", f"{_SPACE} --loss ikl"),
    "tail-ikl-unbiased": ("the same with class means without the prior", f"{_SPACE} --loss ikl --prior-weight-rho 1"),
    "tail-ikl-rho": ("the same with rho = 1", f"{_SPACE} --loss ikl --prior-rho 1"),
}
TEACHER = "teacher"


def run(words: list[str], folder: Path) -> dict[str, Any]:
    """The result of a run: read where it is finished, else trained or gone on with."""
    result = folder / "result.json"
    if not (result.is_file() and json.loads(result.read_text())["status"] == "finished"):
        call = ["--resume", str(folder)] if (folder / "config.yaml").is_file() else [*words, "--out", str(folder)]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = tailmatch(["longtail", *call])
        if code:
            sys.exit(f"{folder} ended with code {code}\n{said.getvalue()}")
    return json.loads(result.read_text())


def one_seed(
    seed: int, common: list[str], teacher: list[str], place: Path, only: list[str]
) -> dict[str, dict[str, float | None]]:
    """Accuracies by method; the teacher's among them, as every student found it."""
    found: dict[str, dict[str, float | None]] = {}
    for name in METHODS:
        words = METHODS[name][1].replace("STAGE1", str(place / "ce")).split()
        if name not in only:
            continue
        distills = "--loss" in words
        shared = _without_model(common) if "--stage1" in words else common
        shared = [*shared, *teacher] if distills else shared
        result = run([*words, *shared, "--seed", str(seed)], place / name)
        found[name] = result["accuracy"]["last"]
        if "teacher" in result:
            found[TEACHER] = result["teacher"]["accuracy"]
        print(f"seed {seed}  {name:<18}" + "  ".join(f"{g} {_percent(found[name][g])}" for g in GROUPS), flush=True)
    return found


def _without_model(words: list[str]) -> list[str]:
    """A second stage takes the data, the network and the length of its own from the first."""
    for option in ("--model", "--dataset", "--data-root", "--imbalance", "--epochs"):
        words = _without(words, option)
    return words


def _without(words: list[str], option: str) -> list[str]:
    if option not in words:
        return words
    place = words.index(option)
    return words[:place] + words[place + 2 :]


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}"


def table(by_seed: dict[int, dict[str, dict[str, float | None]]]) -> str:
    """Mean ± standard deviation over the seeds, in Markdown."""
    lines = ["| method | many | medium | few | all |", "|---|---|---|---|---|"]
    for name in (TEACHER, *METHODS):
        rows = [found[name] for found in by_seed.values() if name in found]
        if not rows:
            continue
        label = "the teacher, by cross-entropy" if name == TEACHER else METHODS[name][0]
        lines.append(f"| {label} | " + " | ".join(_cell([row[group] for row in rows]) for group in GROUPS) + " |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "n/a"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="seeds trained at a time, each in a process of its own")
    parser.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--name", default="digits")
    parser.add_argument("--threads", default="1")
    for option in ("--dataset", "--data-root", "--imbalance", "--model", "--teacher", "--epochs", "--batch-size"):
        parser.add_argument(option)
    options = parser.parse_args()
    by_seed: dict[int, dict] = {}
    # Spawned: a fork of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        seeds = {pool.submit(train_seed, seed, options): seed for seed in range(options.seeds)}
        for done in as_completed(seeds):
            by_seed[seeds[done]] = done.result()
            write(options, dict(sorted(by_seed.items())))  # so that a long series shows some
    print((RESULTS / f"longtail_{options.name}.md").read_text())


def train_seed(seed: int, options: argparse.Namespace) -> dict[str, dict[str, float | None]]:
    """Everything of one seed: the teacher where it is a run of its own, then every method."""
    common = ["--threads", options.threads]
    for name in ("dataset", "data_root", "imbalance", "model", "epochs", "batch_size"):
        if getattr(options, name) is not None:
            common += [f"--{name.replace('_', '-')}", getattr(options, name)]
    place = RUNS / options.name / f"seed{seed}"
    place.mkdir(parents=True, exist_ok=True)
    needs_stage1 = any("STAGE1" in METHODS[name][1] for name in options.only)
    only = sorted({*options.only, *(["ce"] if needs_stage1 else [])}, key=list(METHODS).index)
    return one_seed(seed, common, _teacher(options, seed, common, place, only), place, only)


def write(options: argparse.Namespace, by_seed: dict[int, dict]) -> None:
    """The table and the numbers, with what made them."""
    names = [TEACHER, *options.only]
    results = [RUNS / options.name / f"seed{seed}" / name / "result.json" for seed in by_seed for name in names]
    seconds = sum(json.loads(result.read_text())["seconds"] for result in results if result.is_file())
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    made_by = {
        "command": " ".join(["python benchmarks/longtail_results.py", *words]),
        "seeds": list(by_seed),
        "training_minutes": round(seconds / 60, 1),
        "processor": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": time.strftime("%Y-%m-%d"),
    }
    text = f"""Accuracy on test in per cent, last epoch, mean ± standard deviation over {len(by_seed)} seeds.

{table(by_seed)}

`{made_by["command"]}`: {made_by["training_minutes"]} minutes of training in all, {options.threads} thread each, on
{made_by["processor"]}; torch {torch.__version__}, Python {platform.python_version()}, {made_by["date"]}.
"""
    (RESULTS / f"longtail_{options.name}.md").write_text(text)
    accuracies = {str(seed): found for seed, found in by_seed.items()}
    report = json.dumps({**made_by, "accuracy": accuracies}, indent=1)
    (RESULTS / f"longtail_{options.name}.json").write_text(report + "\n")


def _teacher(options: argparse.Namespace, seed: int, common: list[str], place: Path, only: list[str]) -> list[str]:
    """The words that name the students' teacher, which is a run of its own on other data than the embedded digits."""
    if not any("--loss " in METHODS[name][1] for name in only):
        return []
    if options.dataset in (None, "digits-lt"):
        return [] if options.teacher is None else ["--teacher", options.teacher]
    if options.teacher is None:
        sys.exit("Give --teacher NETWORK: it is trained first, by cross-entropy.")
    words = [*_without(common, "--model"), "--model", options.teacher, "--seed", str(seed)]
    run(words, place / TEACHER)
    return ["--teacher-checkpoint", str(place / TEACHER)]


if __name__ == "__main__":
    main()
