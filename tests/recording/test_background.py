"""Rows go through a thread: in order, whole, bounded, and never silently lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosim.recording
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import BackgroundWriter, RunReader, RunWriter, Status

HOME = Path(neurosim.recording.__file__).parents[2]


def declared(path: Path) -> RunWriter:
    writer = RunWriter(path, "training", {})
    writer.scale("step", dtype="i8")
    writer.scale("place", np.arange(100))
    writer.dataset("value", ("step", "place"))
    writer.start()
    return writer


def row(number: int) -> dict[str, Any]:
    return {"step": number, "value": np.full(100, float(number))}


class Gated:
    """A writer that lets rows through one by one, and remembers them."""

    def __init__(self) -> None:
        self.gate, self.rows, self.ends = threading.Semaphore(0), [], []

    def append(self, scale: str, made: dict[str, Any]) -> None:
        assert self.gate.acquire(timeout=30)
        if isinstance(made["step"], Exception):
            raise made["step"]
        self.rows.append((scale, made))

    def close(self, status: str, message: str) -> None:
        self.ends.append((status, message))


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_rows_come_in_order(tmp_path: Path) -> None:
    background = BackgroundWriter(declared(tmp_path / "run.h5"))
    for number in range(200):
        later = row(number)
        if number % 3 == 0:  # made by the thread
            later["value"] = lambda n=number: np.full(100, float(n))
        background.append("step", later)
        if number == 100:
            background.flush()
            with RunReader(tmp_path / "run.h5") as run:
                assert len(run["step"]) == 101
    background.close()
    with RunReader(tmp_path / "run.h5") as run:
        assert run.status is Status.COMPLETE
        np.testing.assert_array_equal(run["step"], np.arange(200))
        np.testing.assert_array_equal(run["value"][:, 7], np.arange(200))


def test_memory_is_bounded() -> None:
    """What is in work counts too; a row beyond the limit goes through alone."""
    gated, added = Gated(), []
    background = BackgroundWriter(gated, limit=1000)  # type: ignore[arg-type]

    def add() -> None:
        for size in (600, 400, 1, 5000, 1):
            background.append("step", {"step": size}, size=size)
            added.append(size)

    thread = in_thread(add)
    for expected in ([600, 400], [600, 400, 1], [600, 400, 1], [600, 400, 1, 5000], None):
        time.sleep(0.1)
        assert expected is None or added == expected
        gated.gate.release()
    thread.join(30)
    background.flush()
    assert [made["step"] for _, made in gated.rows] == [600, 400, 1, 5000, 1]
    background.close()


def test_flush_waits_for_the_row_in_work() -> None:
    gated = Gated()
    background = BackgroundWriter(gated)  # type: ignore[arg-type]
    background.append("step", {"step": 1}, size=0)
    time.sleep(0.05)
    flushed = []
    thread = in_thread(lambda: (background.flush(), flushed.append(len(gated.rows))))  # type: ignore[arg-type, return-value]
    time.sleep(0.05)
    assert not flushed
    gated.gate.release()
    thread.join(30)
    assert flushed == [1]
    background.close("interrupted", "stopped")
    assert gated.ends == [("interrupted", "stopped")]


@pytest.mark.parametrize("call", ["append", "flush", "close"])
def test_an_error_reaches_the_caller(call: str) -> None:
    """Also one that waits for room; rows that waited behind the error are dropped."""
    gated, error = Gated(), RunFileError("no room")
    background = BackgroundWriter(gated, limit=100)  # type: ignore[arg-type]
    background.append("step", {"step": error}, size=100)
    calls = {
        "append": lambda: background.append("step", {"step": 2}, size=100),
        "flush": background.flush,
        "close": background.close,
    }
    threading.Timer(0.1, gated.gate.release).start()
    with pytest.raises(RunFileError, match="no room"):
        calls[call]()
    if call != "close":
        with pytest.raises(RunFileError, match="no room"):
            background.close()
    assert gated.ends == [(Status.FAILED, "RunFileError: no room")]
    assert gated.rows == []


def test_an_error_ends_a_real_run(tmp_path: Path) -> None:
    background = BackgroundWriter(declared(tmp_path / "run.h5"))
    background.append("step", row(1))
    background.append("step", {"step": 2, "value": np.zeros(3)})
    with pytest.raises(InvalidArgument, match=r"'value' must have the shape \(100,\)"):
        background.flush()
    with pytest.raises(InvalidArgument):
        background.close()
    with RunReader(tmp_path / "run.h5") as run:
        assert run.status is Status.FAILED
        assert "'value' must have the shape" in run.message
        assert list(run["step"]) == [1]


def test_the_limit_is_a_number_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="limit must be >= 1 byte, got 0"):
        BackgroundWriter(Gated(), limit=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(3))
def test_killed(tmp_path: Path, number: int) -> None:
    """What was flushed is there, and whatever else is there is whole."""
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_background import *
background = BackgroundWriter(declared(Path(sys.argv[1])))
for i in range(10**9):
    background.append("step", row(i))
    if i % 20 == 0:
        background.flush()
        os.write(1, b"%d\\n" % i)
"""
    arguments = [script, str(tmp_path / "run.h5"), str(Path(__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", *arguments],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(np.random.default_rng(number).uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    said = process.communicate(timeout=30)[0].split()
    with RunReader(tmp_path / "run.h5") as run:
        assert run.status is Status.KILLED
        rows = len(run["step"])
        assert rows > int(said[-1] if said else 0)
        np.testing.assert_array_equal(run["step"], np.arange(rows))
        np.testing.assert_array_equal(run["value"], np.arange(rows)[:, None].repeat(100, 1))
