"""Every semi-supervised algorithm on digits with 40 labels, and every add-on on long-tailed digits, over five seeds.

    python benchmarks/ssl_results.py                       # train what is missing, then write the tables
    python benchmarks/ssl_results.py --only algorithms     # or add-ons, losses, class-means
    python benchmarks/ssl_results.py --tables              # the tables alone, from the runs there are

Each run is one process on one thread, `--jobs` of them at a time; a finished run is never repeated, one that was cut
off goes on. Tables: results/ssl_digits.md and results/ssl_digits.json. About 2 1/2 hours on two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.ssl.presets import ADD_ONS, PRESETS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
LOSSES = ("kl", "js", "dkl", "ikl", "gkl", "dkd")


@dataclass(frozen=True)
class Row:
    """One line of a table: its name and the options that make it."""

    name: str
    options: tuple[str, ...]


GROUPS: dict[str, tuple[Row, ...]] = {
    "algorithms": tuple(
        Row(name, ("--algorithm", name, *(() if name == "fully-supervised" else ("--labels", "40"))))
        for name in PRESETS
    ),
    "losses": tuple(Row(f"fixmatch + {loss}", ("--labels", "40", "--loss", loss)) for loss in LOSSES),
    "class-means": tuple(
        Row(f"fixmatch + {loss}, {weights} weights", ("--labels", "40", "--loss", loss, "--loss.weights", weights))
        for loss in ("ikl", "gkl")
        for weights in ("class", "sample")
    ),
    "add-ons": (
        Row("supervised", ("--config", "digits_lt_ssl", "--algorithm", "supervised")),
        Row("fixmatch", ("--config", "digits_lt_ssl")),
        *(Row(f"fixmatch + {name}", ("--config", "digits_lt_ssl", "--add-on", name)) for name in ADD_ONS),
    ),
}
TITLES = {
    "algorithms": "Digits, 40 labels: every algorithm",
    "losses": "Digits, 40 labels: FixMatch with the losses of the shared module",
    "class-means": "Digits, 40 labels: class means against sample weights",
    "add-ons": "Long-tailed digits: every add-on on FixMatch",
}
BASELINES = {"algorithms": "supervised", "losses": None, "class-means": None, "add-ons": "fixmatch"}


def folder_of(out: Path, group: str, row: Row, seed: int) -> Path:
    return out / group / f"{row.name.replace(' ', '').replace(',', '-')}-s{seed}"


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run; None for one that is still to do."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return result if result["status"] == "finished" else None


def train(folder: Path, row: Row, seed: int) -> str:
    """Run or go on with one run; returns the line to print."""
    if finished(folder):
        return f"there already: {folder.name}"
    command = [sys.executable, str(ROOT / "run.py"), "ssl"]
    if (folder / "config.yaml").is_file():
        command += ["--resume", str(folder)]
    else:
        command += [*row.options, "--seed", str(seed), "--device", "cpu", "--threads", "1", "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if done.returncode:
        return f"FAILED: {folder.name}: {done.stderr.strip().splitlines()[-1:]}"
    result = finished(folder)
    return f"{folder.name}: {100 * result['accuracy']['last']['all']:.1f} %" if result else f"unfinished: {folder.name}"


def collect(out: Path, group: str, row: Row, seeds: int) -> dict[str, Any]:
    """The numbers of one row over the seeds that are finished."""
    results = [found for seed in range(seeds) if (found := finished(folder_of(out, group, row, seed)))]
    numbers: dict[str, Any] = {"name": row.name, "options": list(row.options), "seeds": len(results)}
    for part in ("all", "many", "medium", "few"):
        values = [result["accuracy"]["last"][part] for result in results]
        numbers[part] = None if None in values or not values else spread(values)
    best = [result["accuracy"]["best"]["all"] for result in results]
    middle = [result["accuracy"]["median_of_last_20"]["all"] for result in results]
    numbers |= {"best": spread(best) if best else None, "median_of_last_20": spread(middle) if middle else None}
    for part in ("utilisation", "accuracy"):
        found = [r["pseudo_labels"][part] for r in results if r.get("pseudo_labels") and r["pseudo_labels"][part]]
        numbers[f"pseudo_label_{part}"] = spread(found) if found else None
    return numbers


def spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def remark(numbers: dict[str, Any], baseline: dict[str, Any] | None, part: str) -> str:
    """Seeds in common: how many were better, and by how much. The same seed is the same split."""
    if baseline is None or numbers["name"] == baseline["name"] or not numbers[part] or not baseline[part]:
        return ""
    pairs = list(zip(numbers[part]["values"], baseline[part]["values"], strict=False))
    better = sum(a > b for a, b in pairs)
    gain = 100 * statistics.mean(a - b for a, b in pairs)
    verdict = "" if better > len(pairs) / 2 and gain > 0 else "; does not help"
    return f"{gain:+.1f}, better with {better} of {len(pairs)} seeds{verdict}"


def table(group: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    tailed = any(row["few"] for row in rows)
    baseline = next((row for row in rows if row["name"] == BASELINES[group]), None)
    parts = ["all", "many", "medium", "few"] if tailed else ["all", "median_of_last_20", "best"]
    judged = "few" if tailed else "all"
    against = f"{judged}, against {BASELINES[group]}" if baseline else ""
    yield f"## {TITLES[group]}\n"
    yield "| | " + " | ".join([*parts, "pseudo-labels accepted", "of them right", against]) + " |"
    yield "|" + "---|" * (len(parts) + 4)
    for row in rows:
        cells = [show(row[part]) for part in (*parts, "pseudo_label_utilisation", "pseudo_label_accuracy")]
        yield f"| {row['name']} | " + " | ".join([*cells, remark(row, baseline, judged)]) + " |"
    yield ""


def show(numbers: dict[str, Any] | None) -> str:
    if numbers is None:
        return ""
    deviation = f" ± {100 * numbers['std']:.1f}" if numbers["std"] is not None else ""
    return f"{100 * numbers['mean']:.1f}{deviation}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(GROUPS), nargs="+", default=list(GROUPS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ssl-results")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    options = parser.parse_args()
    if not options.tables:
        # Seed by seed, so that a grid that is cut short has whole columns.
        todo = [(group, row, seed) for seed in range(options.seeds) for group in options.only for row in GROUPS[group]]
        with ThreadPoolExecutor(options.jobs) as pool:
            runs = [pool.submit(train, folder_of(options.out, g, row, seed), row, seed) for g, row, seed in todo]
            for number, run in enumerate(runs, 1):
                print(f"{number}/{len(runs)}  {run.result()}", flush=True)
    collected = {group: [collect(options.out, group, row, options.seeds) for row in GROUPS[group]] for group in GROUPS}
    found = {group: [row for row in rows if row["seeds"]] for group, rows in collected.items()}
    lines = [
        "# Semi-supervised learning on digits\n",
        "Made by `python benchmarks/ssl_results.py`. Test accuracy in %, mean ± standard deviation over seeds, each of",
        "which is another split, another order and other initial weights; the last evaluation of the averaged weights",
        "unless the column says otherwise (`best` is chosen on the test set and therefore optimistic).\n",
    ]
    for group, rows in found.items():
        lines += table(group, rows) if rows else []
    (RESULTS / "ssl_digits.md").write_text("\n".join(lines), encoding="utf-8")
    (RESULTS / "ssl_digits.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
