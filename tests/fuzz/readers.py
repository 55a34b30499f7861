"""Every reader of what others may have written, with inputs to try on it: it reads them, or refuses them in a sentence.

A reader is a function of one input that returns, or raises one of REFUSALS. Anything else is a fault, and so are five
seconds. What is read of a file with a checksum must be what was written.
"""

import io
import json
import pickle
import time
import warnings
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from inputs import COMMAND_LINES, JSON, LINES, METRICS, PLACES, TUNING, VALUES, YAML, damaged, damaged_text, one_damaged

from tailmatch._public import load_named
from tailmatch.analysis.npz_reader import BrokenFile, NpzReader
from tailmatch.analysis.run_folder import Grouping, read_run
from tailmatch.analysis.runs import Method
from tailmatch.analysis.tuning import tuning_of
from tailmatch.cli import _training_task
from tailmatch.commands import COMMANDS
from tailmatch.datasets.cifar_batches import OfArrays
from tailmatch.datasets.files.file_set import parse_list, read_inaturalist
from tailmatch.datasets.files.record import ListRecord, Record
from tailmatch.datasets.folder import read_folder
from tailmatch.datasets.index_file import read_indices
from tailmatch.datasets.npz import read_npz
from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import load_newest, load_weights, save_checkpoint, save_weights
from tailmatch.engine.command_line import parse, parse_run
from tailmatch.engine.config import read_recipe
from tailmatch.engine.recorded import last_step, result_of
from tailmatch.engine.suite.grid import read_grid
from tailmatch.engine.suite.suite_file import SuiteFile
from tailmatch.errors import UserError
from tailmatch.features.store import open_store
from tailmatch.guarded_text import Unreadable, json_values, yaml_nodes, yaml_values
from tailmatch.inference.images import Preprocess
from tailmatch.models.state_file import read_state
from tailmatch.runs import look_at
from tailmatch.ssl.config import SSLConfig
from tests.small_files import (
    CARD,
    DATA,
    LABELS,
    PREDICTIONS,
    RESULT,
    STATE,
    folder_of,
    image,
    is_state,
    put,
    saved,
)
from tests.stores import write_store

REFUSALS = (UserError, BrokenFile, Unreadable)
LONGEST_SECONDS = 5.0


class Reader(NamedTuple):
    """A reader, and what to try on it."""

    inputs: SearchStrategy[Any]
    read: Callable[[Any, Path], object]
    """Of an input and an empty folder; False where it was refused by all readers of such files."""


class Attempt(NamedTuple):
    """What became of an input."""

    read: bool
    """False where it was refused as it should be."""
    seconds: float


def attempt(reader: Reader, given: Any) -> Attempt:
    """Try an input.

    Raises:
        AssertionError: if it takes too long, twice: a busy machine is no fault of the reader.
    """
    tries = []
    while not tries or (tries[-1].seconds >= LONGEST_SECONDS and len(tries) < 2):
        with TemporaryDirectory() as folder:
            begun = time.perf_counter()
            try:
                read = reader.read(given, Path(folder)) is not False
            except REFUSALS:
                read = False
            tries.append(Attempt(read, time.perf_counter() - begun))
    assert tries[-1].seconds < LONGEST_SECONDS, f"{tries[-1].seconds:.1f} s"
    return tries[-1]


def any_reads(*readers: Callable[[], object]) -> bool:
    """Whether at least one of several readers of the same file does not refuse it; all are tried."""
    done = 0
    for read in readers:
        try:
            read()
        except REFUSALS:
            continue
        done += 1
    return done > 0


# -- words and texts ---------------------------------------------------------------------------------------------------


def _command_line(given: tuple[str, list[str]], folder: Path) -> None:
    name, words = given
    words = [word for word in words if not word.startswith(("--help", "-h"))]
    command = COMMANDS[name]
    if command.trains:
        parse_run(load_named(command.config), name, words, name, load_named(command.resolved))
    elif command.parse:
        load_named(command.parse)(words, name, _training_task)
    else:
        parse(load_named(command.config), words, name)


def _yaml(text: str, folder: Path) -> bool:
    file = folder / "file.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return any_reads(
        lambda: yaml_values(text),
        lambda: yaml_nodes(text),
        lambda: read_recipe(SSLConfig(), file, "ssl"),
        lambda: read_grid(SuiteFile(file)),
    )


def _json(text: str, folder: Path) -> bool:
    (folder / "result.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    result_of(folder)
    look_at(folder)
    return any_reads(
        lambda: json_values(text),
        lambda: Card.of_header({"tailmatch": text}, "file"),
        lambda: read_inaturalist(folder / "result.json", folder),
    )


def _run_folder(given: tuple[dict[str, Any], str, str], folder: Path) -> None:
    changes, config, metrics = given
    (folder / "result.json").write_text(json.dumps(RESULT | changes))
    (folder / "config.yaml").write_bytes(config.encode("utf-8", "surrogatepass"))
    (folder / "metrics.jsonl").write_bytes(metrics.encode("utf-8", "surrogatepass"))
    (folder / "predictions.npz").write_bytes(PREDICTIONS)
    look_at(folder)
    last_step(folder)
    run = read_run(folder, Grouping())
    run.metrics_frame  # noqa: B018  (reads metrics.jsonl)


def _tuning(text: str, folder: Path) -> bool:
    put(
        {"suite/tuning.json": text.encode("utf-8", "surrogatepass"), "suite/ikl-s0/predictions.npz": PREDICTIONS},
        folder,
    )
    (folder / "suite" / "ikl-s0" / "result.json").write_text(json.dumps(RESULT))
    run = read_run(folder / "suite" / "ikl-s0", Grouping())
    return bool(tuning_of([Method(name="ikl", runs=(run,))]))


def _lists(text: str, folder: Path) -> bool:
    file = folder / "indices.txt"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return any_reads(
        lambda: parse_list(text, "list.txt", folder, 3),
        lambda: read_indices(file, torch.tensor([0, 1, 0, 1]), ["a", "b"]),
    )


def _indices(content: bytes, folder: Path) -> None:
    (folder / "indices.npy").write_bytes(content)
    read_indices(folder / "indices.npy", torch.tensor([0, 1, 0, 1]), ["a", "b"])


LIST = b"train/a.png 0\ntrain/b.png 1\n"
PREPARED = folder_of(
    lambda folder: (
        folder.mkdir(),
        (folder / "train.txt").write_bytes(LIST),
        Record(
            dataset="imagenet-lt",
            root=".",
            lists={"train": ListRecord(file="train.txt", sha256=sha256(LIST).hexdigest(), images=2)},
            places={"train": "{rest}"},
            class_names=("a", "b"),
        ).write(folder),
    )
)


def _prepared(files: dict[str, bytes], folder: Path) -> None:
    put(files, folder)
    found = Record.read(folder, "imagenet-lt")
    found.files(folder, found.images_root(folder), "train")


# -- arrays, weights and images ----------------------------------------------------------------------------------------


def _npz_file(content: bytes, folder: Path) -> bool:
    file = folder / "data.npz"
    file.write_bytes(content)

    def every_array() -> None:
        reader = NpzReader(file)
        for name in reader.shapes:
            reader.read(name)

    return any_reads(every_array, lambda: read_npz(file))


def _weights(content: bytes, folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(content)
    card, state = load_weights(file)
    assert card == CARD, "another card"
    assert is_state(state), "other weights"


def _checkpoint(content: bytes, folder: Path) -> None:
    (folder / "step_00000007.safetensors").write_bytes(content)
    found = load_newest(folder)
    assert found is not None
    assert found[0] == 7, "another step"
    assert is_state(found[1]), "other weights"


def _teacher(content: bytes, folder: Path) -> None:
    file = folder / "teacher.pt"
    file.write_bytes(content)
    assert is_state(dict(read_state(file).state)), "other weights"


FEATURES = np.arange(24, dtype=np.float16).reshape(6, 1, 4)
STORE = folder_of(
    lambda folder: write_store(
        folder,
        {"train": {"plain": FEATURES}, "test": {"plain": FEATURES[:2]}},
        {"train": LABELS, "test": LABELS[:2]},
        {"train": np.eye(6, 16, dtype=np.uint8), "test": np.eye(2, 16, dtype=np.uint8)},
        ("a", "b"),
        rows=4,
    )
)


def _store(files: dict[str, bytes], folder: Path) -> None:
    put(files, folder)
    train = open_store(folder)["train"]
    assert np.array_equal(train.features(), FEATURES[:, 0]), "other features"
    assert np.array_equal(train.labels, LABELS), "other labels"


def _pickle(content: bytes, folder: Path) -> None:
    """Behind the MD5 that keeps anything else from it: it may fail as it likes, and make nothing but plain values."""
    try:
        found = OfArrays(content).load()
    except Exception as error:
        raise UserError(f"no batch ({error})") from None
    plain = (dict, list, tuple, str, bytes, int, float, bool, complex, type(None), np.ndarray, np.dtype, bytearray)
    assert isinstance(found, (*plain, set, frozenset)) or callable(found), type(found)


def _pickled() -> bytes:
    return pickle.dumps({"data": np.zeros((1, 12), np.uint8), "labels": [3]}, protocol=2)


def _images(content: bytes, folder: Path) -> bool:
    (folder / "image").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that it reads over
        return any_reads(*(partial(read.of_file, folder / "image") for read in PREPROCESSING))


PREPROCESSING = [
    Preprocess(CARD),
    Preprocess(
        Card(
            **{**vars(CARD), "channels": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3, "image_size": 16, "short_side": 18},
        )
    ),
]


def _folder(files: dict[tuple[str, str], bytes], folder: Path) -> None:
    put({f"{place}/{name}.png": content for (place, name), content in files.items()}, folder)
    read_folder(folder, image_size=4)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


IMAGE = image()
# Half of them with what a data set needs at least, so that they come as far as the images.
FOLDERS = st.dictionaries(
    st.tuples(PLACES, st.sampled_from("xyz")), st.just(IMAGE) | damaged(IMAGE), max_size=6
).flatmap(
    lambda files: st.sampled_from(
        [files, {**files, **{(f"{part}/{name}", "w"): IMAGE for part in ("train", "test") for name in "ab"}}]
    )
)
READERS = {
    "command-line": Reader(COMMAND_LINES, _command_line),
    "yaml": Reader(YAML, _yaml),
    "json": Reader(JSON, _json),
    "run-folder": Reader(
        st.tuples(
            st.dictionaries(st.sampled_from(sorted(RESULT)), VALUES, max_size=2),
            st.just("seed: 0\nlr: 0.1\n") | YAML,
            METRICS,
        ),
        _run_folder,
    ),
    "tuning": Reader(damaged_text(json.dumps(TUNING)) | JSON, _tuning),
    "lists": Reader(LINES, _lists),
    "indices": Reader(damaged(_npy(np.array([0, 1]))), _indices),
    "prepared": Reader(one_damaged(PREPARED), _prepared),
    "npz": Reader(damaged(DATA), _npz_file),
    "safetensors": Reader(damaged(saved(lambda file: save_weights(file, STATE, CARD))), _weights),
    "checkpoint": Reader(damaged(saved(lambda file: save_checkpoint(file.parent, 7, STATE))), _checkpoint),
    "teacher": Reader(damaged(saved(lambda file: torch.save(STATE, file))), _teacher),
    "feature-store": Reader(one_damaged(STORE), _store),
    "pickle": Reader(damaged(_pickled()), _pickle),
    "image": Reader(
        st.one_of(
            *(damaged(image(kind, 24, colour)) for kind in ("PNG", "JPEG", "BMP", "TIFF") for colour in (True, False))
        ),
        _images,
    ),
    "folder": Reader(FOLDERS, _folder),
}
