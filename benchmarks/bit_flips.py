"""Flip single bits in every kind of file that a later command trusts, and read each by that command's own function.

    python benchmarks/bit_flips.py --flips 5000

What is read of a file with one flipped bit has to be what the whole file gives, or else the damage is detected: the
file is refused in a sentence, or an earlier checkpoint is taken with a remark. Places and bits are drawn at random,
the same number for every kind. The record goes into results/reliability.json.

The files are those of a small run of longtail, which has validation images, a teacher, curves and mistakes, and of a
small feature store; all are read without a new process, as `analyze`, `evaluate`, `predict`, `--resume`, `--config`,
`--teacher-checkpoint` and `data check` read them.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from pickle import dumps
from typing import Any, NamedTuple

import numpy as np
import torch
from reliability import record

from tailmatch.analysis.confused import kept_examples
from tailmatch.analysis.npz_reader import BrokenFile
from tailmatch.analysis.run_folder import Grouping, read_run
from tailmatch.analysis.runs import Method
from tailmatch.analysis.tuning import tuning_of, unreadable
from tailmatch.cli import main as tailmatch
from tailmatch.datasets import load_dataset
from tailmatch.datasets.cifar_batches import _checked
from tailmatch.datasets.files.record import ListRecord, Record
from tailmatch.engine.checkpoint import checkpoints, load_checkpoint, load_newest, load_weights
from tailmatch.engine.config import own_parts_of, read_recipe
from tailmatch.engine.files import write_sealed_json
from tailmatch.engine.recorded import result_of
from tailmatch.engine.records import RunFolder
from tailmatch.errors import UserError
from tailmatch.features import SplitPlan, StorePlan, StoreWriter, data_fingerprint, open_store
from tailmatch.guarded_text import Unreadable
from tailmatch.longtail.config import LongtailConfig
from tailmatch.models.state_file import read_state

DETECTED = (UserError, BrokenFile, Unreadable)
WORDS = ["longtail", "--dataset", "digits-lt", "--model", "cnn-digits", "--teacher", "cnn-digits", "--loss", "gkl"]
WORDS += ["--val-fraction", "0.2", "--batch-size", "32", "--steps", "12", "--eval-every", "4", "--log-every", "1"]
WORDS += ["--checkpoint-every", "5", "--threads", "1", "--device", "cpu"]


class Detected(Exception):
    """What a reader says that raises nothing."""


class Kind(NamedTuple):
    """A kind of file, one of it, and what a later command takes from it."""

    file: Path
    read: Callable[[], Any]
    """Values of any kind, which `plain` can tell apart."""


# -- what is read ------------------------------------------------------------------------------------------------------


def of_analysis(folder: Path, weights: str = "last") -> Any:
    """All that tables and charts are made of."""
    run = read_run(folder, Grouping(), weights)
    told = {name: value for name, value in vars(run).items() if name != "environment"}
    arrays = (run.logits(), run.logits("teacher_logits"), run.class_accuracy, run.head())
    return told, arrays, run.metrics_frame.to_dict()


def of_checkpoints(folder: Path) -> Any:
    """What `--resume` goes on from."""
    found = load_newest(folder)
    assert found is not None
    if found[2]:
        assert load_checkpoint(checkpoints(folder)[0])[0] == found[0]
        raise Detected(found[2])
    return found


def of_begun(folder: Path, step: int, checksum: str) -> bytes:
    """The curves that `--resume` goes on with."""
    run = RunFolder(folder)
    run.open_metrics(step, checksum)
    run.close("interrupted")
    return (folder / "metrics.jsonl").read_bytes()


def of_result(folder: Path) -> Any:
    """What `--resume` and suites ask of a run; nothing, as of one that has not finished, where it is damaged."""
    found = result_of(folder)
    if not found:
        raise Detected("not finished: resuming the run writes it anew")
    return found


def of_environment(folder: Path) -> Any:
    run = read_run(folder, Grouping())
    RunFolder(folder).refuse_other_data(run.environment["split_fingerprint"], None)
    return run.environment


def of_tuning(folder: Path) -> Any:
    if said := unreadable([folder.parent]):
        raise Detected(said)
    tuning_of.__globals__["_tuned_runs"].cache_clear()
    return tuning_of([Method(name="gkl", runs=(read_run(folder, Grouping()),))])


def of_pictures(folder: Path) -> Any:
    found = kept_examples(read_run(folder, Grouping()))
    if not found:
        raise Detected("no pictures")
    return {pair: images.tobytes() for pair, images in found.items()}


def of_store(folder: Path) -> Any:
    store = open_store(folder)
    return [(split.features(), split.digests(), split.labels) for split in store.splits.values()], store.card


def of_lists(folder: Path) -> Any:
    found = Record.read(folder, "imagenet-lt")
    files = found.files(folder, found.images_root(folder), "train")
    return found, files.root, files.paths, files.labels


def of_batch(file: Path, published: str) -> Any:
    """torchvision's readers make a UserError of what this one raises."""
    try:
        return _checked(file, published)
    except RuntimeError as error:
        raise Detected(error) from None


# -- the files ---------------------------------------------------------------------------------------------------------


def kinds(base: Path) -> dict[str, Kind]:
    """One of each, made here."""
    out = base / "suite" / "run"
    call([*WORDS, "--out", str(out)])
    begun = base / "begun"
    shutil.copytree(out, begun)
    step, state = load_checkpoint(checkpoints(begun / "checkpoints")[-1])
    teacher = base / "teacher.pt"
    torch.save(load_weights(out / "weights.safetensors")[1], teacher)
    trial = {"changes": {"lr": "0.1"}, "validation": [0.5], "test": [{"all": 0.5}]}
    method = {"runs": ["run"], "chosen": 0, "trials": [trial, trial]}
    tuning = out.parent / "tuning.json"
    write_sealed_json(tuning, {"schema": 1, "trials": 2, "seeds": [7], "methods": {"gkl": method}})
    store, prepared, batch = written_store(base / "store"), written_lists(base / "lists"), base / "batch"
    batch.write_bytes(dumps({"data": np.arange(3072, dtype=np.uint8)[None], "labels": [1]}, protocol=2))
    weights = {name: out / f"{name}.safetensors" for name in ("weights", "selected")}
    recipe = out / "config.yaml"
    return {
        "checkpoint": Kind(checkpoints(out / "checkpoints")[-1], partial(of_checkpoints, out / "checkpoints")),
        **{f"{path.name}": Kind(path, partial(load_weights, path)) for path in weights.values()},
        "predictions.npz": Kind(out / "predictions.npz", partial(of_analysis, out)),
        "predictions_selected.npz": Kind(out / "predictions_selected.npz", partial(of_analysis, out, "selected")),
        "confusions.npz": Kind(out / "confusions.npz", partial(of_pictures, out)),
        "config.yaml": Kind(
            recipe, lambda: (read_recipe(LongtailConfig(), recipe, "longtail"), own_parts_of(recipe), of_analysis(out))
        ),
        "result.json, by analyze": Kind(out / "result.json", partial(of_analysis, out)),
        "result.json, by --resume": Kind(out / "result.json", partial(of_result, out)),
        "environment.json": Kind(out / "environment.json", partial(of_environment, out)),
        "metrics.jsonl of a finished run": Kind(out / "metrics.jsonl", partial(of_analysis, out)),
        "metrics.jsonl of a run to resume": Kind(
            begun / "metrics.jsonl", partial(of_begun, begun, step, state["metrics"])
        ),
        "tuning.json": Kind(tuning, partial(of_tuning, out)),
        "teacher.pt": Kind(teacher, lambda: read_state(teacher).state),
        "shard of a store": Kind(store / "train" / "00000.safetensors", partial(of_store, store)),
        "card.json of a store": Kind(store / "card.json", partial(of_store, store)),
        "labels.npy of a store": Kind(store / "train" / "labels.npy", partial(of_store, store)),
        "journal of a store": Kind(store / ".verified", partial(of_store, store)),
        "prepared.json": Kind(prepared / "prepared.json", partial(of_lists, prepared)),
        "prepared list": Kind(prepared / "train.txt", partial(of_lists, prepared)),
        "batch of CIFAR": Kind(batch, partial(of_batch, batch, md5(batch.read_bytes()).hexdigest())),
    }


def call(words: list[str]) -> None:
    if code := tailmatch(words):
        raise SystemExit(f"{' '.join(words)} ended with code {code}")


def written_store(out: Path) -> Path:
    """The test images of the digits, their pixels for features."""
    images = load_dataset("digits").test
    digests, labels = images.digests(), images.labels.numpy()
    split = SplitPlan(images=len(images), views={"plain": 1}, fingerprint=data_fingerprint(digests, labels))
    plan = StorePlan(
        feature_size=64, class_names=tuple("0123456789"), splits={"train": split}, rows=256, about={"backbone": {}}
    )
    features = images.images.flatten(1).numpy()[:, None].astype(np.float16)
    with StoreWriter(out, plan, {"train/labels.npy": labels}) as writer:
        for place in writer.missing():
            part = slice(place.first, place.first + place.images)
            writer.write(place, {"plain": features[part], "digests": digests[part]})
    of_store(out)  # leaves the journal
    return out


def written_lists(out: Path) -> Path:
    content = "".join(f"train/n{number:04}.JPEG {number % 7}\n" for number in range(200)).encode()
    out.mkdir()
    (out / "train.txt").write_bytes(content)
    row = ListRecord(file="train.txt", sha256=sha256(content).hexdigest(), images=200)
    places = {"train": "{rest}"}
    Record(dataset="imagenet-lt", root=".", lists={"train": row}, places=places, class_names=tuple("abcdefg")).write(
        out
    )
    return out


# -- the flips ---------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The same for equal values, down to the last bit of their arrays."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return [(plain(key), plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, plain(getattr(value, field.name))) for field in fields(value)]
    return repr(value)


def outcome(kind: Kind, expected: Any) -> str:
    try:
        found = kind.read()
    except (*DETECTED, Detected):
        return "detected"
    except Exception as error:
        return f"ended in {type(error).__name__}"
    return "identical" if plain(found) == expected else "other"


def flipped(kind: Kind, flips: int, draw: random.Random) -> dict[str, int]:
    """How often each came out, of so many flips."""
    whole = kind.file.read_bytes()
    expected, counts = plain(kind.read()), Counter({"detected": 0, "identical": 0})
    assert plain(kind.read()) == expected, f"{kind.file} is not read alike twice"
    for _ in range(flips):
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        kind.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        counts[said := outcome(kind, expected)] += 1
        if said not in ("detected", "identical"):
            print(f"{kind.file.name}: bit {bit} of byte {place}: {said}", file=sys.__stdout__, flush=True)
    kind.file.write_bytes(whole)
    return {"bytes": len(whole), "flips": flips, **counts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=5000, help="over all kinds")
    parser.add_argument("--seed", type=int, default=0, help="of the places and bits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw, found = random.Random(arguments.seed), {}
    with tempfile.TemporaryDirectory() as base, (Path(base) / "said").open("w") as said:
        with redirect_stdout(said), redirect_stderr(said):
            of = kinds(Path(base))
        for name, kind in of.items():
            with redirect_stdout(said), redirect_stderr(said):
                found[name] = flipped(kind, -(-arguments.flips // len(of)), draw)
            print(f"{name:<34}{json.dumps(found[name])}", flush=True)
    totals = Counter[str]()
    for counts in found.values():
        totals.update({name: count for name, count in counts.items() if name != "bytes"})
    record("bit flips", {**totals, "kinds": found})
    return 0 if totals["flips"] == totals["detected"] + totals["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
