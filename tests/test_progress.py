"""Progress: one live line on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import io
import os

import pytest

import neurosim.progress
from neurosim.progress import ERASE, StatusLine, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the time is; a computer that was just switched on says 0."""
    now = [0.0]
    monkeypatch.setattr(neurosim.progress.time, "monotonic", lambda: now[0])
    return now


def screen(written: str) -> list[str]:
    """What a terminal shows."""
    lines = [""]
    for piece in written.replace(ERASE, "\0").replace("\n", "\1\n").split("\n"):
        lines[-1] = (lines[-1] + piece).rpartition("\0")[2]
        if lines[-1].endswith("\1"):
            lines[-1] = lines[-1][:-1]
            lines.append("")
    return lines


def test_one_live_line(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        neurosim.progress.shutil, "get_terminal_size", lambda: os.terminal_size((11, 5))
    )
    terminal = Terminal()
    line, made = StatusLine(stream=terminal), []

    def state(number: int) -> str:
        made.append(number)
        return f"step {number} of a thousand"

    for number in range(100):
        clock[0] = number / 32
        line.update(lambda n=number: state(n))
    assert screen(terminal.getvalue()) == ["step 96 of"]
    assert len(made) == 25  # only what is shown is made
    line.say("epoch 1")
    assert screen(terminal.getvalue()) == ["epoch 1", ""]
    line.update(lambda: state(100))  # at once
    assert screen(terminal.getvalue()) == ["epoch 1", "step 100 o"]
    line.clear()
    assert screen(terminal.getvalue()) == ["epoch 1", ""]


@pytest.mark.parametrize(
    ("log", "live"), [(io.StringIO(), True), (Terminal(), False)], ids=["log", "shared terminal"]
)
def test_plain_lines(clock: list[float], log: io.StringIO, live: bool) -> None:
    line = StatusLine(stream=log, live=live, every=10)
    for second in range(25):
        clock[0] = float(second)
        line.update(lambda n=second: f"step {n}")
    line.say("done")
    line.update(lambda: "too soon")
    line.clear()
    assert log.getvalue() == "step 0\nstep 10\nstep 20\ndone\n"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_quiet(stream: io.StringIO) -> None:
    line = StatusLine(quiet=True, stream=stream)
    line.update(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    line.say("nothing")
    line.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (187, "3:07 min"),
        (3599.7, "1:00:00 h"),
        (3753, "1:02:33 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
