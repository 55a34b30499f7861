"""YAML and JSON from files that anybody may have written: of bounded size, depth and repetition, and of plain values.

Where a text has a checksum (checksums.py), it is compared.

YAML may say "the same again" of a part, and again of that: nine lines are a billion values. Brackets within brackets
exhaust the stack of the parsers. Both are counted here before anything is built.
"""

import json
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tailmatch.checksums import ENTRY, Damaged, verify_text

LONGEST_YAML = 1 << 20
LONGEST_JSON = 1 << 26
DEEPEST = 60
MOST_VALUES = 100_000
# The same loader in C where PyYAML was built with it: ten times as fast.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(ValueError):
    """A text that is not read; the message says why, to follow its file's name.

    Attributes:
        line: where, counted from 1.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(" ".join(reason.split())[:300])
        self.line = line

    def place(self, path: Path) -> str:
        """`file:line`, as far as the line is known."""
        return str(path) if self.line is None else f"{path}:{self.line}"


def is_text(name: str) -> bool:
    """Whether a name, of a folder for one, can stand in a text: its bytes are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(path: Path, longest: int) -> str:
    """A file's text.

    Raises:
        Unreadable: if it is no file, longer than so many bytes, not UTF-8, or has another checksum than it says.
        OSError: if it cannot be opened.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise Unreadable("is no file")
    with path.open("rb") as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise Unreadable(f"is longer than the {longest:,} bytes that are read of such a file")
    try:
        verify_text(content)
        return content.decode("utf-8")
    except Damaged as error:
        raise Unreadable(str(error)) from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not a text file in UTF-8 (byte {error.start})") from None


def read_yaml(path: Path) -> Any:
    """A YAML file's values.

    Raises:
        Unreadable: saying why it is not read.
        OSError: if it cannot be opened.
    """
    return yaml_values(text_of(path, LONGEST_YAML))


def read_json(path: Path, longest: int = LONGEST_JSON) -> Any:
    """A JSON file's values, without its checksum; raises as `read_yaml`."""
    content = json_values(text_of(path, longest))
    if isinstance(content, dict):
        content.pop(ENTRY, None)
    return content


def yaml_nodes(text: str) -> Any:
    """A YAML text as nodes, which know their lines; None where it is empty.

    Raises:
        Unreadable: where it is not YAML, or too deep or too repetitive.
    """
    _check_yaml(text)
    try:
        return yaml.compose(text, Loader=_SafeLoader)
    except yaml.YAMLError as error:
        _refuse(error)


def yaml_values(text: str) -> Any:
    """A YAML text's values; raises as `yaml_nodes`."""
    _check_yaml(text)
    try:
        return yaml.load(text, Loader=_SafeLoader)
    except yaml.YAMLError as error:
        _refuse(error)
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:  # a date of a 13th month, say
        raise Unreadable(f"holds a value that cannot be read ({error})") from None


def json_values(text: str) -> Any:
    """A JSON text's values.

    Raises:
        Unreadable: where it is not JSON, or too deep.
    """
    try:
        content = json.loads(text, parse_constant=_no_number)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(content, ensure_ascii=False).encode()  # half a character has no place in any file of ours
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    except ValueError as error:  # a number of 5,000 digits, or half a character
        raise Unreadable(f"holds a value that cannot be read ({error})") from None
    return content


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _check_yaml(text: str) -> None:
    """Count the depth and the values of a text, parts that stand for others as large as these."""
    begun: list[tuple[str | None, int]] = []  # of each open part its anchor, and the values before it
    sizes: dict[str, int] = {}  # by anchor
    count = 0
    try:
        for event in yaml.parse(text, Loader=_SafeLoader):
            mark, anchor = event.start_mark, getattr(event, "anchor", None)
            line = mark.line + 1 if mark else None
            if isinstance(event, yaml.CollectionStartEvent):
                begun.append((anchor, count))
                count += 1
                if len(begun) > DEEPEST:
                    raise Unreadable(f"is nested more than {DEEPEST} levels deep", line)
            elif isinstance(event, yaml.CollectionEndEvent):
                name, before = begun.pop()
                if name is not None:
                    sizes[name] = count - before
            elif isinstance(event, yaml.ScalarEvent):
                event.value.encode()
                count += 1
                if anchor is not None:
                    sizes[anchor] = 1
            elif isinstance(event, yaml.AliasEvent):
                if anchor in {name for name, _ in begun}:
                    raise Unreadable(f"has *{anchor} within the very part that it names", line)
                count += sizes.get(str(anchor), 1)
            if count > MOST_VALUES:
                raise Unreadable(f"comes to more than {MOST_VALUES:,} values", line)
    except yaml.YAMLError as error:
        _refuse(error)
    except UnicodeEncodeError:
        raise Unreadable("holds a word that is no text in Unicode") from None


def _refuse(error: yaml.YAMLError) -> NoReturn:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    raise Unreadable(f"is not YAML: {reason}", mark.line + 1 if mark else None) from None
