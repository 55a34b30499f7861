"""The command line from a checkout: `python run.py ssl --loss ikl`. (Installed: `tailmatch ssl ...`.)"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (said before anything is imported that an older Python cannot read)
    sys.exit(f"error: tailmatch needs Python 3.11 or newer, and this is {sys.version.split()[0]} ({sys.executable}).")

from tailmatch.__main__ import main

if __name__ == "__main__":
    main()
