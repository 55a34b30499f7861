"""The public names of `models/`: one factory, and the way to a model's classifier and features."""

from tailmatch._public import public

__path__, __all__, __getattr__ = public("models")
