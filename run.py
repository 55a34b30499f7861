"""The command line from a checkout: `python run.py ssl --loss ikl`. (Installed: `tailmatch ssl ...`.)"""

from tailmatch.__main__ import main

if __name__ == "__main__":
    main()
