"""The form of a run's result.json, which people and other programs alter: what of it is trusted has the type it should.

Entries that are not named here may hold anything; they are only shown.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def problem_of_result(result: Mapping[str, Any]) -> str | None:
    """What is wrong with a result's entries, in words; None where nothing is."""
    for name, (is_right, wanted) in _ENTRIES.items():
        value = result.get(name)
        if value is not None and not is_right(value):
            return f"{name} must be {wanted}, got {_shortened(value)}"
    return None


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _list_of(is_right: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def _mapping_to(is_right: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(is_right, value.values()))


def _holding(**checks: Check) -> Check:
    """Names and values, where the entries of these names (if they are there) are right."""
    return lambda value: (
        isinstance(value, dict)
        and all(value.get(name) is None or is_right(value[name]) for name, is_right in checks.items())
    )


def _is_share(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)


_is_accuracy = _mapping_to(_is_share)
_ids = _list_of(_is_whole)
_WORD, _WHOLE, _NUMBER = (_is_word, "a word"), (_is_whole, "a whole number"), (_is_number, "a number")
_ENTRIES: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(
        ("task", "name", "dataset", "algorithm", "method", "loss", "model", "status", "error", "metrics_sha256"), _WORD
    ),
    **dict.fromkeys(("seed", "steps", "total_steps"), _WHOLE),
    **dict.fromkeys(("seconds", "images_per_second"), _NUMBER),
    "accuracy": (_mapping_to(_is_accuracy), "names and values: of each kind the accuracies, 0 to 1, by group"),
    "val_accuracy": (
        _holding(last=_is_accuracy, best=_is_accuracy, selected_step=_is_whole),
        "names and values: last and best accuracies, and a selected_step",
    ),
    "groups": (_holding(rule=_is_word, many=_ids, medium=_ids, few=_ids), "names and values: a rule, and lists of ids"),
    "class_names": (_list_of(_is_word), "a list of words"),
    "add_ons": (_list_of(_is_word), "a list of words"),
    "own_parts": (_mapping_to(_is_word), "names and values: a class for each part"),
    "evaluated_weights": (_holding(), "names and values"),
    "pseudo_labels": (_holding(), "names and values"),
    "teacher": (_holding(name=_is_word, weights=_is_word, accuracy=_is_accuracy), "names and values: of the teacher"),
}


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
