"""The public names of `datasets/`: `from tailmatch.datasets import load_dataset`."""

from tailmatch._public import public

__path__, __all__, __getattr__ = public("datasets")
