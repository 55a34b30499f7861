"""matplotlib's SVG as a part of the page: it takes the page's theme, passes its policy, and is a third of the size.

A strict content security policy forbids `style` attributes, so styles become classes of one sheet for all charts. Each
colour becomes a variable named after itself, `var(--c-1f2328)`, which is that colour in the light theme. In the dark
one the colours of `style.THEME` are the page's own; those of data stay, being legible on both grounds, and so do the
pixels of a matrix, which are transparent where there is nothing.
"""

import re
from collections.abc import Iterator, Mapping
from html import escape
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tailmatch.analysis.style import THEME

BLACK = "#000000"
"""What SVG fills with where nothing is said."""
DARK = {"ink": "#e6e9ee", "muted": "#9aa5b1", "grid": "#2e3742", "area": "#3a4450", "paper": "#171c23"}
PAGE_COLORS = {color: DARK[purpose] for color, purpose in THEME.items()} | {BLACK: DARK["ink"]}
"""What the page has a colour of its own for, in the dark theme."""
FONTS = '"DejaVu Sans",Verdana,system-ui,sans-serif'
"""Verdana has DejaVu's widths; anything narrower leaves room, since every text is anchored where it belongs."""
TURN = "filter:invert(1) hue-rotate(180deg);mix-blend-mode:lighten"
"""Of a chart that is all pixels; the second part lets the page show through where white paper has become black."""

_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"#([\w.-]+)")
_ROUNDED = ("d", "x", "y", "width", "height", "points", "transform")
_PAINTS = ("fill", "stroke")  # which matplotlib writes as attributes inside of patterns
_DROPPED_TAGS = ("metadata", "style")
_SHARED = "stroke-linejoin:round;stroke-linecap:butt"


def in_the_dark(color: str) -> str:
    """A colour's counterpart in the dark theme: data's stay, which were chosen for both."""
    return PAGE_COLORS.get(color, color)


class ChartSheet:
    """The styles of all charts of a page, collected while they are made."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._colors = {BLACK}

    def inline(self, svg: str, prefix: str, label: str, kind: str = "") -> str:
        """The markup of one chart.

        Args:
            svg: as matplotlib writes it, with its words as words (`svg.fonttype` none).
            prefix: for the ids that it refers to itself by.
            label: what it shows, for those who cannot see it.
            kind: further classes for the element.
        """
        root = ElementTree.fromstring(svg)  # matplotlib made it a moment ago: nothing from elsewhere
        box = root.attrib["viewBox"]
        background = next(iter(root.iter("{http://www.w3.org/2000/svg}path")), None)
        values = [value for element in root.iter() for value in element.attrib.values()]
        used = {name for value in values for name in _REFERENCE.findall(value)}
        body = "".join(self._written(child, prefix, used, background) for child in root)
        width, height = (round(float(side) * 96 / 72) for side in box.split()[2:])
        return (
            f'<svg class="{" ".join(("chart", kind)).strip()}" role="img" aria-label="{escape(label)}" viewBox="{box}" '
            f'width="{width}" height="{height}">{body}</svg>'
        )

    def rules(self) -> str:
        """The sheet: what a chart needs wherever it is shown, colours by variables."""
        rules = [
            f".chart{{fill:var(--c-{BLACK[1:]})}}",
            f".chart *{{{_SHARED}}}",
            f".chart text{{font-family:{FONTS};white-space:pre}}",
        ]
        return "\n".join(rules + [f".{name}{{{style}}}" for style, name in self._classes.items()])

    def themes(self) -> str:
        """The colours of both themes."""
        light = "".join(f"--c-{color[1:]}:{color};" for color in sorted(self._colors))
        dark = "".join(f"--c-{color[1:]}:{in_the_dark(color)};" for color in sorted(self._colors))
        chosen, preferred = ':root[data-theme="dark"]', ':root:not([data-theme="light"])'
        return (
            f":root{{{light}}}\n@media screen{{{chosen}{{{dark}}}{chosen} .turn{{{TURN}}}}}\n"
            f"@media screen and (prefers-color-scheme:dark){{{preferred}{{{dark}}}{preferred} .turn{{{TURN}}}}}"
        )

    def _written(self, element: Element, prefix: str, used: set[str], background: Element | None) -> str:
        tag = element.tag.rpartition("}")[2]
        if tag in _DROPPED_TAGS or element is background:
            return ""
        inside = "".join(self._written(child, prefix, used, background) for child in element)
        inside = escape((element.text or "").strip("\n"), quote=False) + inside if tag == "text" else inside
        pairs = self._attributes(tag, element, prefix, used)
        attributes = "".join(f' {name}="{escape(value)}"' for name, value in pairs)
        if not attributes and (tag == "g" or not inside):
            return inside
        return f"<{tag}{attributes}>{inside}</{tag}>" if inside else f"<{tag}{attributes}/>"

    def _attributes(self, tag: str, element: Element, prefix: str, used: set[str]) -> Iterator[tuple[str, str]]:
        style = _properties(_renamed(element.attrib.get("style", ""), prefix, used))
        style |= {name: element.attrib[name] for name in _PAINTS if name in element.attrib}
        classes = [self._class_of(style)] if style else []
        if classes:
            yield "class", " ".join(classes)
        for key, value in element.attrib.items():
            name = key.rpartition("}")[2]
            if name == "id":
                if value in used:
                    yield "id", prefix + value
            elif name in _ROUNDED:
                if not value.startswith("rotate(-0 "):
                    yield name, " ".join(_NUMBER.sub(_shorter, value).split())
            elif name == "href" and value.startswith("data:"):
                yield name, "".join(value.split())
            elif name not in ("style", "space", *_PAINTS):
                yield name, _renamed(value, prefix, used)

    def _class_of(self, properties: Mapping[str, str]) -> str:
        style = ";".join(f"{name}:{value}" for name, value in sorted(properties.items()))
        for color in _COLOR.findall(style):
            self._colors.add(color)
        style = _COLOR.sub(lambda found: f"var(--c-{found[0][1:]})", style)
        return self._classes.setdefault(style, f"c{len(self._classes)}")


def _properties(style: str) -> dict[str, str]:
    """`fill: #ffffff; font: 7px 'DejaVu Sans'` by name; the family is the sheet's, for all texts alike."""
    pairs = [pair.partition(":") for pair in style.split(";") if pair.strip()]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    found.pop("font-family", None)
    if "font" in found:
        size = re.search(r"[\d.]+px", found["font"])
        weight = re.match(r"(bold|\d{3})\b", found.pop("font"))
        found |= {"font-size": size[0]} if size else {}
        found |= {"font-weight": weight[0]} if weight else {}
    return found


def _renamed(value: str, prefix: str, used: set[str]) -> str:
    """References to the chart's own parts, under their names on the page."""

    def new_name(found: re.Match[str]) -> str:
        return f"#{prefix}{found[1]}" if found[1] in used and not _COLOR.fullmatch(found[0]) else found[0]

    return _REFERENCE.sub(new_name, value)


def _shorter(number: re.Match[str]) -> str:
    """A hundredth of a point is less than any screen shows."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".") or "0"
