"""The file of a suite: its entries and the words in them; every problem is told by file and line. Free of torch."""

from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tailmatch.errors import UserError, nearest
from tailmatch.guarded_text import LONGEST_YAML, Unreadable, text_of, yaml_nodes

Value = str | tuple[str, ...] | None
"""One value of an option as words; None leaves the option out."""

_TOP = ("task", "seeds", "options", "tune", "runs", "exclude")
_ABOUT_ONE_RUN = ("out", "resume", "seed", "threads", "print_config", "dry_run")


class SuiteFile:
    """What a suite's file holds.

    Args:
        text: what the file holds, where it is not written yet.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        try:
            self._root: Any = yaml_nodes(text_of(path, LONGEST_YAML) if text is None else text)
        except Unreadable as error:
            raise UserError(f"{error.place(path)} {error}.") from None

    @cached_property
    def entries(self) -> dict[str, Any]:
        """What stands at the top of the file."""
        top = self.mapping(self._root, "a suite", known=_TOP)
        if "runs" not in top or not isinstance(top["runs"], yaml.SequenceNode) or not top["runs"].value:
            raise self.error(self._root, "a suite needs `runs:`, a list of blocks of options.")
        return top

    def mapping(self, node: Any, what: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
        """`name: value` lines; with `known`, no other names than these."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} must hold `name: value` lines.")
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, f"a name in {what} must be a word.")
            name = str(key.value).replace("-", "_")
            if name in found:
                raise self.error(key, f"{key.value} stands twice; keep one.")
            if name in _ABOUT_ONE_RUN:
                raise self.error(key, f"{key.value} is the suite's to give; its seeds stand under `seeds:`.")
            if known and name not in known:
                raise self.error(value, f"unknown entry {name!r}.{nearest(name, known)}")
            found[name] = value
        return found

    def items(self, node: Any, what: str) -> list[Any]:
        """The nodes of a list."""
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{what}.")
        return list(node.value)

    def values(self, node: Any, option: str) -> list[Value]:
        """One value, or those of a list."""
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not items:
            raise self.error(node, f"{option} has an empty list; leave it out.")
        return [self.value(item, option) for item in items]

    def value(self, node: Any, option: str) -> Value:
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.word(item, option) for item in node.value)
        return None if is_null(node) else self.word(node, option)

    def word(self, node: Any, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            advice = f"; write its options as `{what}.beta: 0.1`" if isinstance(node, yaml.MappingNode) else ""
            raise self.error(node, f"{what} must be a word or a list of words{advice}.")
        return str(node.value)

    def seeds(self, node: Any) -> tuple[int, ...]:
        values = self.values(node, "seeds")
        try:
            seeds = tuple(int(str(value)) for value in values)
        except ValueError:
            raise self.error(node, "seeds must be whole numbers.") from None
        if len(set(seeds)) < len(seeds):
            raise self.error(node, "seeds must differ from each other.")
        return seeds

    def error(self, node: Any, text: str) -> UserError:
        return UserError(f"{self.where(node)}: {text}")

    def where(self, node: Any) -> str:
        """`file:line`."""
        return f"{self.path}:{node.start_mark.line + 1}" if node is not None else str(self.path)


def is_null(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def as_node(value: Value, origin: Any) -> Any:
    """A value as the file would have it, at the line of its origin."""
    if isinstance(value, tuple):
        return yaml.SequenceNode("tag:yaml.org,2002:seq", [as_node(item, origin) for item in value], origin.start_mark)
    return yaml.ScalarNode(f"tag:yaml.org,2002:{'null' if value is None else 'str'}", value or "", origin.start_mark)
