"""The public names of `ssl/`: `from tailmatch.ssl import SSLConfig, Parts, train`.

This is not Python's own `ssl`, which `import ssl` still gives.
"""

from tailmatch._public import public

__path__, __all__, __getattr__ = public("ssl")
