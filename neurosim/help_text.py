"""What tyro prints, as people read it: help in one column, mistakes in one sentence."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WIDTH = 110  # of help, in characters


@contextmanager
def one_column() -> Iterator[None]:
    """Keep help as narrow as one reads well; on wide terminals tyro puts boxes side by side."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(min(shutil.get_terminal_size().columns, WIDTH))
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


class Page(io.StringIO):
    """Help on its way to the terminal, if there is one: it may have colours and boxes."""

    encoding = property(lambda self: getattr(sys.__stdout__, "encoding", "utf-8"))  # type: ignore[assignment]

    def isatty(self) -> bool:
        """As the terminal says."""
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def tidy(text: str) -> str:
    """Help without "(default: None)": what happens then is what the option's own words say.

    And with another title for a group of options that is called so itself.
    """
    colour = r"\x1b\[[0-9;]*m"
    text = re.sub(rf"options((?:{colour})* (?:{colour})*options)", r"general\1", text)
    between = rf"((?:[ │|\n]|{colour})*)"  # a space, or the end of a line in its box
    pattern = rf"\(default:{between}((?:None)?\))"
    text = re.sub(pattern, lambda found: " " * 9 + found[1] + " " * len(found[2]), text)
    blank = rf"^(?:{colour})*[│|](?: |{colour})*[│|](?: |{colour})*\n"
    return re.sub(blank, "", text, flags=re.MULTILINE)


def without_box(text: str) -> str:
    """The words of a message that stands in a box of several parts."""
    parts = re.split(r"\n\W*─{8,}\W*\n", text.strip())
    words = (" ".join(re.sub(r"[│╭╮╰╯]|─{2,}.*|─ .* ─", " ", part).split()) for part in parts)
    return "; ".join(word for word in words if word)
