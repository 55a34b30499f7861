"""`python -m tailmatch` and the `tailmatch` command."""

from tailmatch.cli import main as run
from tailmatch.engine.stopping import leave


def main() -> None:
    leave(run())


if __name__ == "__main__":
    main()
