"""Words that tyro refuses, as one sentence like all others: which option, what it takes, what it got. Free of torch."""

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from typing import Any, get_args, get_origin

import tyro

from tailmatch.engine.config import Option, options_of
from tailmatch.engine.yaml_values import coerce_text
from tailmatch.errors import UserError, nearest


def parsed(config_type: Any, words: Sequence[str], program: str, **more: Any) -> Any:
    """What tyro makes of the words.

    Raises:
        UserError: for words that it refuses.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            found = tyro.cli(config_type, args=list(words), prog=program, **more)
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        raise UserError(_sentence(config_type, words, program, said.getvalue())) from None
    print(said.getvalue(), end="", file=sys.stderr)
    return found


def _sentence(config_type: Any, words: Sequence[str], program: str, said: str) -> str:
    """The first word that is at fault, by our own options; in tyro's words where these find none."""
    known = _known(config_type)
    has_actions = known.pop("--action", None) is not None  # it stands without a name, and has options of its own
    for name, values, inline in _grouped(words):
        option = known.get(name)
        if option is None:
            if name not in ("-h", "--help") and not has_actions:
                return f"Unknown option {name} of `{program}`.{nearest(name, known)} `{program} --help` lists them."
        elif problem := _problem(name, option, values, inline):
            return problem
    return f"{_first_paragraph(said)}; see `{program} --help`."


def _known(config_type: Any) -> dict[str, Option]:
    """The options by each of the words that name them."""
    found = {}
    for option in options_of(config_type):
        word = f"--{option.name.replace('_', '-')}"
        for spelled in (word, *option.aliases, *([f"--no-{word[2:]}"] if option.type is bool else [])):
            found[spelled] = option
    return found


def _problem(name: str, option: Option, values: Sequence[str], inline: bool) -> str | None:
    """What is wrong with the words behind an option; the ones that do not belong to it are not looked at."""
    if option.type is bool:
        return f"{name} takes no value, got {values[0]!r}." if inline else None
    takes_several = get_origin(option.type) is tuple
    if not values and not takes_several:
        return f"{name} needs a value."
    kind = get_args(option.type)[0] if takes_several else option.type
    for value in values if takes_several else values[:1]:
        if value == "None" and type(None) in get_args(kind):
            continue
        try:
            coerce_text(value, kind)
        except ValueError as error:
            return f"{name} must be {error}, got {value[:80]!r}.{nearest(value, _choices(kind))}"
    return None


def _choices(kind: Any) -> Iterator[Any]:
    """The words that a type allows, as far as it lists them."""
    for part in get_args(kind):
        if isinstance(part, str):
            yield part
        else:
            yield from _choices(part)


def _grouped(words: Sequence[str]) -> Iterator[tuple[str, list[str], bool]]:
    """Each option with the words behind it, and whether `=` joins them."""
    group: tuple[str, list[str], bool] | None = None
    for word in words:
        if word == "--":
            break
        if re.match(r"--[A-Za-z]", word):
            if group is not None:
                yield group
            name, equals, value = word.partition("=")
            group = (name.replace("_", "-"), [value] if equals else [], bool(equals))
        elif group is not None:
            group[1].append(word)
    if group is not None:
        yield group


def _first_paragraph(said: str) -> str:
    """Tyro's own sentence, out of the box that it draws: the lines between the title and the first rule."""
    lines: list[str] = []
    for line in said.split("\n")[1:]:
        inside = line.strip("│| ")
        if not set(inside) - set("─-+╰╯"):
            if lines:
                break
            continue
        lines.append(inside.replace("(required)", ""))
    text = " ".join(" ".join(lines).split()) or "These words are refused"
    return text.rstrip(".:")[:400]
