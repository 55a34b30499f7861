"""Errors a user can cause: one sentence that says what was got, what is allowed and what to do.

The command line prints the sentence without a traceback and exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can mend: a mistyped name, a missing file, a broken archive."""


def nearest(got: str, allowed: Iterable[str]) -> str:
    """`" Did you mean 'fixmatch'?"`, or nothing where no allowed name is near."""
    close = get_close_matches(got.lower(), list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_name(kind: str, got: str, allowed: Iterable[str]) -> UserError:
    """The error for a name that is not in a list: names the nearest one and the whole list."""
    allowed = list(allowed)
    return UserError(f"Unknown {kind} {got!r}.{nearest(got, allowed)} Allowed: {', '.join(allowed)}.")
