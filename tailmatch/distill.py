"""The public names of `distill/`, each imported from its file when first asked for."""

from tailmatch._public import public

__path__, __all__, __getattr__ = public("distill")
