"""What the losses that are modules share: they are made from options declared in `catalog.py`, and checked once."""

from typing import Any

from torch import nn

from tailmatch.declare import check_values, options_of


class LossModule(nn.Module):
    """A loss whose options are its attributes; a class of options to inherit from first makes its constructor."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if options := options_of(cls):  # what `help` shows
            lines = (f"    {name}: {option.help} ({option.default!r})" for name, option in options.items())
            cls.__doc__ = "\n".join([cls.__doc__ or "", "", "Options, with their defaults:", *lines])

    def __init__(self) -> None:
        self.__post_init__()

    def __post_init__(self) -> None:
        nn.Module.__init__(self)
        declared = options_of(type(self))
        self._names = tuple(declared)
        check_values(declared, self.options())

    def options(self) -> dict[str, Any]:
        """The values of its options."""
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())
