"""The public names of `analysis/`: `from tailmatch.analysis import group_runs, read_runs`."""

from tailmatch._public import public

__path__, __all__, __getattr__ = public("analysis")
