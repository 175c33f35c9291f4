"""HTML and SVG put together so that text is always escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

VOID = ("br", "hr", "img", "input", "link", "meta")


class Markup(str):
    """Text that is markup already; any other text is escaped on its way into an element."""


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """<tag attributes>children</tag>.

    Attributes end in _ where Python has the word, and _ within them becomes -. True stands
    alone; None and False are left out.
    """
    words = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in VOID:
        return Markup(f"<{tag}{words}>")
    return Markup(f"<{tag}{words}>{joined(children)}</{tag}>")


def joined(children: Iterable[object]) -> Markup:
    """Children one after the other, None left out."""
    shown = (child for child in children if child is not None)
    return Markup("".join(c if isinstance(c, Markup) else escape(str(c)) for c in shown))


def data(values: Any) -> Markup:
    """Values for the page's script, which parses them as JSON."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    return element("script", Markup(text.replace("<", "\\u003c")), type="application/json")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> Markup:
    """A table whose first column names its rows; wide ones scroll by themselves."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = (
        element("tr", element("th", first, scope="row"), *(element("td", c) for c in rest))
        for first, *rest in rows
    )
    found = element(
        "table", element("caption", caption), element("thead", head), element("tbody", *body)
    )
    return element("div", found, class_="scroll", tabindex="0", role="region", aria_label=caption)


def listed(values: Mapping[str, Any]) -> Markup:
    """Names and values, nested ones below their name."""
    items = []
    for name, value in values.items():
        shown = listed(value) if isinstance(value, Mapping) else _plain(value)
        items.append(joined([element("dt", name), element("dd", shown)]))
    return element("dl", *items)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _attribute(name: str, value: object) -> str:
    word = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {word}" if value is True else f' {word}="{escape(str(value))}"'
