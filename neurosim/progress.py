"""Progress of anything longer than a few seconds: a live bar, or plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")


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
