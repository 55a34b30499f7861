"""The datasets that are lists of files: what is known of each, from `lists/`. Free of torch and numpy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tailmatch.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class ListRecipe:
    """One list file and what it must hold."""

    file: str
    images: int
    """How many images it lists."""
    smallest: int
    """Images of its smallest class."""
    largest: int
    """Images of its largest class."""
    checksum: str | None = None
    """SHA-256, or git's hash of the file (40 digits)."""
    bytes: int | None = None
    """Size of the file."""
    json: str | None = None
    """A file of annotations beside the images that says the same and is preferred."""


@dataclass(frozen=True, kw_only=True)
class FileRecipe:
    """What is known of a dataset before it is prepared."""

    name: str
    description: str
    classes: int
    lists: dict[str, ListRecipe]
    """By split: train, test and perhaps val."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    url: str | None = None
    """The folder that the list files are fetched from; None: the lists are written from the folders."""
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By the first part of a listed path: where its image may be, see `layout.py`."""
    folders: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By split: folders of classes that it may be."""
    solution: tuple[str, ...] = ()
    """Files that may say the classes of test images that lie in one folder."""
    longtail: Mapping[str, Any]
    """What the options of `longtail` come to where nothing else is said."""
    distill: Mapping[str, Any] | None = None
    """The same for `distill`; None: as for `longtail`."""


# Of all of them: plain SGD on every parameter, evaluated as it is. What else is usual stands in each list, with source.
_LONGTAIL = {"nesterov": False, "decay_all": True, "ema_decay": 0.0, "warmup": 0.0}
_LISTS = Path(__file__).with_name("lists")
FILE_DATASETS = tuple(sorted(path.stem.replace("_", "-") for path in _LISTS.glob("*.yaml")))


@cache
def file_recipe(name: str) -> FileRecipe:
    """The recipe of a dataset of files."""
    if name not in FILE_DATASETS:
        raise unknown_name("dataset of image files", name, FILE_DATASETS)
    rows = yaml.safe_load((_LISTS / f"{name.replace('-', '_')}.yaml").read_text(encoding="utf-8"))
    lists = {split: ListRecipe(**row) for split, row in rows.pop("lists").items()}
    known = {key: _frozen(value) for key, value in rows.items()}
    usual = {task: {**_LONGTAIL, **known.get(task, {})} for task in ("longtail", "distill") if task in known}
    return FileRecipe(**known | {"lists": lists, "longtail": _LONGTAIL, **usual})


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value
