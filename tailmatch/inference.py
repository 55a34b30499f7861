"""The public names of `inference/`: finished runs as classifiers of other images."""

from tailmatch._public import public

__path__, __all__, __getattr__ = public("inference")
