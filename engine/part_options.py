"""Options of parts on the command line and in recipes: a field for each, made from where it is declared.

A configuration names a part (`--loss ikl`, `--acceptance fixed`) and gives options of it (`--loss.beta 0.1`,
`--threshold 0.9`). One left out (None) takes the part's own default. Free of torch.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import tyro

from tailmatch.declare import Option, Part, find
from tailmatch.errors import UserError

Class = TypeVar("Class")


def one_of(names: Iterable[str], **keywords: Any) -> Any:
    """The names that an option takes, for its help; the configuration's own check has the better sentence."""
    return tyro.conf.arg(metavar="{" + ",".join(dict.fromkeys(names)) + "}", **keywords)


def described(parts: Mapping[str, Part]) -> str:
    """What each is, for the help of the option that chooses among them."""
    return "; ".join(f"{name}, {part.description}" for name, part in parts.items())


def with_options(**catalogs: Mapping[str, Part]) -> Callable[[type[Class]], type[Class]]:
    """Give a class, before `@dataclass` sees it, the options of all parts that each of these fields chooses among."""
    explained: dict[str, dict[str, list[str]]] = {}  # option: what its help says: of which parts
    declared: dict[str, Option] = {}
    for part, options in ((name, part.options) for rows in catalogs.values() for name, part in rows.items()):
        for option, declaration in options.items():
            declared.setdefault(option, declaration)
            explained.setdefault(option, {}).setdefault(declaration.help, []).append(part)

    def add(cls: type[Class]) -> type[Class]:
        annotations: dict[str, Any] = {}
        for name, annotation in cls.__annotations__.items():
            annotations[name] = annotation
            for option in (option for part in catalogs.get(name, {}).values() for option in part.options):
                if option not in annotations:
                    kind: Any = Literal[declared[option].choices] if declared[option].choices else declared[option].kind
                    text = "; ".join(f"{says} ({', '.join(parts)})" for says, parts in explained[option].items())
                    annotations[option] = Annotated[kind | None, tyro.conf.arg(help=f"{text[0].upper()}{text[1:]}.")]
                    setattr(cls, option, None)
        cls.__annotations__ = annotations
        return cls

    return add


def value_problems(options: Mapping[str, Option], values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What is wrong with the values of a part's options."""
    found = []
    for name, value in values.items():
        try:
            options[name].check(prefix + name, value)
        except UserError as error:
            found.append(str(error))
    return found


class WithOptions:
    """A group of options with those of parts among them, which are attributes as well."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def given(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of these options that were set."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class PartOptions(WithOptions):
    """A part by its name, beside the options of all parts of its kind."""

    kind: ClassVar[str]
    catalog: ClassVar[Mapping[str, Part]]
    name: Any

    def given(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        own = (field.name for field in fields(self) if field.name != "name")  # type: ignore[arg-type]
        return super().given(own if names is None else names)

    def left_out(self) -> dict[str, str]:
        """What --help says of the options that are left out: the chosen part's own defaults."""
        names = [field.name for field in fields(self) if field.name != "name"]  # type: ignore[arg-type]
        if self.name not in self.catalog:
            return dict.fromkeys(names, f"default: the {self.kind}'s own")
        own, found = self.catalog[self.name].options, dict.fromkeys(names, f"not an option of {self.name}")
        for name, option in own.items():
            found[name] = f"default: {'as the temperature' if option.default is None else option.default}"
        return found

    def problems(self) -> list[str]:
        try:
            own = find(self.kind, self.name, self.catalog).options
        except UserError as error:
            return [str(error)]
        given, a = self.given(), self.kind
        its = f"its options are: {', '.join(own)}" if own else "it has none"
        found = [
            f"{a.capitalize()} {self.name!r} has no option {name!r}; {its}; leave it out, or take a {a} that has it: "
            f"{', '.join(other for other, part in self.catalog.items() if name in part.options)}."
            for name in given
            if name not in own
        ]
        own_values = {name: value for name, value in given.items() if name in own}
        return found + value_problems(own, own_values, f"{a.replace(' ', '_')}.")
