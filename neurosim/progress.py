"""Progress of anything longer than a few seconds: a live bar, or plain lines in a log."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

T = TypeVar("T")

ERASE = "\r\x1b[K"  # what is on the line


def track(
    items: Iterable[T], *, total: int, title: str, quiet: bool = False, stream: TextIO | None = None
) -> Iterator[T]:
    """Yield `items` and show on stderr how many of `total` are done and how long the rest takes."""
    stream = stream or sys.stderr
    if quiet or stream is None:
        yield from items
    elif stream.isatty():
        yield from _bar(items, total, title, stream)
    else:
        yield from _lines(items, total, title, stream)


def _bar(items: Iterable[T], total: int, title: str, stream: TextIO) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream)) as progress:
        task = progress.add_task(title, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], total: int, title: str, stream: TextIO) -> Iterator[T]:
    """A line every five seconds at most, and one at the end."""
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= 5 and done < total:
            left = (now - start) / done * (total - done)
            print(f"{title}: {done}/{total}, {left:.0f} s left", file=stream, flush=True)
            last = now
    print(f"{title}: {done}/{total} in {time.monotonic() - start:.1f} s", file=stream, flush=True)


class StatusLine:
    """One live line about something that goes on for long; plain lines, now and then, in a log.

    Not `live`, it is plain lines in a terminal too: others print there at the same time.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        live: bool = True,
        every: float = 10.0,
        stream: TextIO | None = None,
    ) -> None:
        self.stream: TextIO | None = stream or sys.stderr  # None where there is no terminal
        self.quiet = quiet or self.stream is None
        self._live = live and self.stream is not None and self.stream.isatty()
        self._every = 0.1 if self._live else every
        self._shown = -math.inf  # when the state was last shown

    def update(self, state: Callable[[], str]) -> None:
        """Show the state, if the last one is old enough: on the live line, or on a new one."""
        now = time.monotonic()
        if self.quiet or now - self._shown < self._every:
            return
        self._shown = now
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._print(f"{ERASE}{state()[:width]}", end="")
        else:
            self._print(state())

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self._print(f"{ERASE if self._live else ''}{text}")
            self._shown = -math.inf if self._live else time.monotonic()

    def clear(self) -> None:
        """Erase the live line: something else is printed next."""
        if self._live and not self.quiet:
            self._print(ERASE, end="")

    def _print(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=self.stream, flush=True)


_listener: Callable[[str], None] | None = None


def notice(text: str) -> None:
    """Tell whoever listens why they wait; a library says nothing by itself."""
    if _listener is not None:
        _listener(text)


def listened() -> bool:
    """Whether anybody does."""
    return _listener is not None


@contextmanager
def notices(listener: Callable[[str], None]) -> Iterator[None]:
    """Listen, within the block."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def duration(seconds: float) -> str:
    """A time for people: 42 s, 3:07 min or 1:02:33 h."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"
