"""The record that `data prepare` writes and training reads: which lists, where the images are, what copies are made."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tailmatch.datasets.files.file_set import FileSet, parse_list
from tailmatch.datasets.files.layout import located
from tailmatch.engine.files import read_plain, write_sealed_json
from tailmatch.errors import UserError
from tailmatch.guarded_text import Unreadable, read_json

RECORD = "prepared.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ListRecord:
    """One list file beside the record."""

    file: str
    sha256: str
    images: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """What there is of a prepared dataset."""

    dataset: str
    root: str
    """The images' folder when it was prepared; relative to the record if that lies within it."""
    lists: dict[str, ListRecord]
    places: dict[str, str]
    """By the first part of a listed path: the pattern of its place within the root."""
    class_names: tuple[str, ...]
    resized: str | None = None
    """The folder of smaller copies beside the record, if they are complete."""

    def write(self, folder: Path) -> None:
        write_sealed_json(folder / RECORD, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, folder: Path, dataset: str) -> "Record":
        """The record of a dataset; refused if there is none, or it is of another."""
        path = folder / RECORD
        again = f"run `data prepare {dataset}` again"
        try:
            content: dict[str, Any] = read_json(path)
            if content.pop("schema") != SCHEMA:
                raise UserError(f"{path} was written by another version; {again}.")
            lists = {split: ListRecord(**row) for split, row in content.pop("lists").items()}
            record = cls(lists=lists, class_names=tuple(content.pop("class_names")), **content)
        except FileNotFoundError:
            raise UserError(
                f"{dataset} has not been prepared: there is no {path}; run `data prepare {dataset} --root DIR` first."
            ) from None
        except (OSError, Unreadable, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} cannot be used ({type(error).__name__}: {error}); {again}.") from None
        if record.dataset != dataset:
            raise UserError(f"{path} is of {record.dataset}, not of {dataset}; give --data-root the right folder.")
        return record

    def images_root(self, folder: Path) -> Path:
        """The images' folder."""
        return (folder / self.root).resolve()

    def files(self, folder: Path, root: Path, split: str) -> FileSet:
        """The images of a split where they lie; refused if its list has been altered since."""
        row = self.lists[split]
        path = folder / row.file
        try:
            content = read_plain(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); run `data prepare {self.dataset}` again."
            ) from None
        if sha256(content) != row.sha256:
            raise UserError(f"{path} has been altered since it was checked; run `data prepare {self.dataset}` again.")
        listed = parse_list(content.decode("utf-8"), row.file, root, len(self.class_names))
        return FileSet.of(root, located(listed.relatives(), self.places), listed.labels)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def root_for_record(root: Path, folder: Path) -> str:
    """How the record names the images' folder: so that both can be moved together where one holds the other."""
    root, folder = root.resolve(), folder.resolve()
    return "/".join([".."] * len(folder.relative_to(root).parts)) or "." if folder.is_relative_to(root) else str(root)
