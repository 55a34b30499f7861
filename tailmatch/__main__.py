"""`python -m tailmatch` and the `tailmatch` command."""

import sys

from .cli import main as run


def main() -> None:
    sys.exit(run())


if __name__ == "__main__":
    main()
