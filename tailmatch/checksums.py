"""Checksums of the files that later commands trust: one flipped bit is noticed, wherever in the file it is.

A safetensors file of ours has the entry `tailmatch_sha256` in its header's `__metadata__`: the SHA-256 of the whole
file, with these 64 digits as zeros. JSON of ours has the same as its first entry, and a recorded configuration in a
comment on its first line, so that whoever changes one on purpose can take the line out. (The shards of a feature store
have `sha256` instead, of the bytes after the header: it follows from the store's card and is compared with what it must
be.) Files of other programs have none.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ENTRY = "tailmatch_sha256"
_NOT_YET = "0" * 64
_WRITTEN = re.compile(rb'"([^"]{16})":"([^"]{64})"')  # of any name, since that may be damaged too
# JSON's first entry, or the comment `# NAME: DIGITS`, whose name and signs may be damaged too.
_IN_TEXT = re.compile(rb'(?:\{\s*"|..)(.{16})(?:": "|..)(.{64})', re.DOTALL)
_DIGITS = re.compile(rb"[0-9a-f]{64}")
_LONGEST_HEADER = 100_000_000  # as safetensors itself allows
_PIECE = 1 << 22


class Damaged(ValueError):
    """A file whose bytes are not those that were written; the message says what is wrong, for after its name."""


def sealed(data: bytes, metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """A safetensors file in pieces, with these entries in its header and its own checksum.

    Args:
        data: the file as safetensors makes it. Of several entries it keeps no order; here equal content gives equal
            bytes.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    tensors = memoryview(data)[end:]
    entries = json.loads(data[8:end])
    entries.pop("__metadata__", None)
    header = {"__metadata__": {**metadata, ENTRY: _NOT_YET}, **entries}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = len(text).to_bytes(8, "little") + text
    checksum = hashlib.sha256(start)
    checksum.update(tensors)
    place = _place(text)
    assert place is not None
    yield start[: 8 + place] + checksum.hexdigest().encode() + start[8 + place + len(_NOT_YET) :]
    yield tensors


def verify_safetensors(path: Path) -> bool:
    """Whether a safetensors file has a checksum, which is then that of its bytes.

    Raises:
        Damaged: if it is not, or the file has no header.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        length = file.read(8)
        size = int.from_bytes(length, "little")
        text = file.read(size) if size <= _LONGEST_HEADER else b""
        if len(length) < 8 or len(text) < size or size == 0:
            raise Damaged("it is cut off, or no safetensors file")
        place = _place(text)
        if place is None:
            return False
        end = place + len(_NOT_YET)
        checksum = hashlib.sha256(length + text[:place] + _NOT_YET.encode() + text[end:])
        while piece := file.read(_PIECE):
            checksum.update(piece)
        if checksum.hexdigest().encode() != text[place:end]:
            raise Damaged("its bytes do not have the checksum in its header")
    return True


def sealed_json(entries: Mapping[str, Any], **form: Any) -> str:
    """Names and values as JSON (of this form, see `json.dumps`), with the text's own checksum before them."""
    return _filled_in(json.dumps({ENTRY: _NOT_YET, **entries}, **form) + "\n")


def sealed_yaml(text: str) -> str:
    """A YAML text with its own checksum in a comment before it."""
    return _filled_in(f"# {ENTRY}: {_NOT_YET} (of this file; a copy to change does without this line)\n{text}")


def verify_text(content: bytes) -> bool:
    """Whether a text has a checksum, which is then that of its bytes.

    Raises:
        Damaged: if it is not.
    """
    found = _IN_TEXT.match(content)
    if found is None or (found[1] != ENTRY.encode() and not _DIGITS.fullmatch(found[2])):
        return False
    start, end = found.span(2)
    checksum = hashlib.sha256(content[:start] + _NOT_YET.encode() + content[end:])
    if found[1] != ENTRY.encode() or checksum.hexdigest().encode() != found[2]:
        raise Damaged(
            f"is damaged, or was changed: its bytes do not have the checksum in it (copy it again; where the change is "
            f"meant, take the line with {ENTRY} out)"
        )
    return True


def _filled_in(text: str) -> str:
    return text.replace(_NOT_YET, hashlib.sha256(as_bytes(text)).hexdigest(), 1)


def as_bytes(text: str) -> bytes:
    """UTF-8; bytes of a file's name that are none stand in it as \\udcff."""
    return text.encode("utf-8", "backslashreplace")


def verify_zip(path: Path) -> bool:
    """Whether a file is a zip archive (`torch.save`'s since PyTorch 1.6, or an npz file), whose checksums then hold.

    Raises:
        Damaged: if one does not, or a part is missing.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # what zipfile and zlib make of broken bytes can be of any kind
        raise Damaged(f"it is cut off or damaged: {' '.join(str(error).split()) or type(error).__name__}") from None
    if broken is not None:
        raise Damaged(f"the bytes of {broken} in it do not have their checksum")
    return True


def _place(header: bytes) -> int | None:
    """Where the checksum's digits begin in a header (inside of other entries the quotation marks are escaped).

    Raises:
        Damaged: if there is one under another name.
    """
    renamed = False
    for found in _WRITTEN.finditer(header):
        if found[1] == ENTRY.encode():
            return found.start(2)
        renamed |= _DIGITS.fullmatch(found[2]) is not None
    if renamed:
        raise Damaged("its checksum has another name than it was written with")
    return None
