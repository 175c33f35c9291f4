"""A resumed run reads as one, and only the same run is resumed."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import (
    SETUP,
    child,
    complete_rows,
    declare,
    ended,
    opened,
    said,
    started,
    write_steps,
)

from neurosim.errors import RunFileError
from neurosim.recording import RunReader, RunWriter


def resumed(path: Path, **more: Any) -> RunWriter:
    return declare(RunWriter.resume(path, **{**SETUP, **more}))


def test_a_resumed_run_reads_as_one(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with started(path) as writer:
        write_steps(writer, {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0})
        writer.write("snr", np.full((3, 5), 1.0), index=0)
        writer.write("count", [5, 6])
        writer.close("interrupted")
    reader = RunReader(path)
    with resumed(path) as writer:
        writer.start()
        write_steps(writer, {3: 30.0, 4: 40.0, 5: 50.0})
        writer.write("snr", np.full(5, 2.0), index=(0, 1))
        writer.write("count", 7, index=1)
        writer.close("failed", "stumbled")
    with resumed(path) as writer:  # ends before its first row
        writer.start()
        writer.close("interrupted")
    with resumed(path) as writer:
        writer.start()
        write_steps(writer, {5: 500.0, 7: 700.0})

    reader.refresh()  # finds the segments that came since
    with reader as run:
        assert [p.name for p in run.segments] == [
            "run.h5", "run.seg1.h5", "run.seg2.h5", "run.seg3.h5",
        ]  # fmt: skip
        assert run.status == "complete"
        steps, losses = np.array([1, 2, 3, 4, 5, 7]), np.array([1.0, 2.0, 30.0, 40.0, 500.0, 700.0])
        assert run.describe("loss").shape == (6,)
        bounds = [None, *range(-7, 8)]
        for start, stop, step in product(bounds, bounds, (None, 1, 2, 5)):
            part = slice(start, stop, step)
            np.testing.assert_array_equal(run.read("step", part), steps[part])
            np.testing.assert_array_equal(run.read("loss", part), losses[part])
        assert [run.read("loss", i) for i in range(-6, 6)] == [*losses, *losses]
        expected = np.full((2, 3, 5), np.nan)
        expected[0], expected[0, 1] = 1.0, 2.0
        np.testing.assert_array_equal(run["snr"], expected)
        np.testing.assert_array_equal(run.read("snr", (0, slice(1, 3), 4)), [2.0, 1.0])
        np.testing.assert_array_equal(run["count"], [5, 7])
        np.testing.assert_array_equal(run["setting"], ["few", "many"])

    with pytest.raises(RunFileError, match="a later segment of a run; resume its first file"):
        resumed(tmp_path / "run.seg1.h5")
    (tmp_path / "run.seg2.h5").rename(tmp_path / "away.h5")
    with pytest.raises(RunFileError, match=r"run\.seg2\.h5: segment of a run is missing"):
        RunReader(path)
    started(tmp_path / "other.h5").close()
    (tmp_path / "other.h5").rename(tmp_path / "run.seg2.h5")
    with pytest.raises(RunFileError, match=r"run\.seg2\.h5: not segment 2 of the run in"):
        RunReader(path)
    path.unlink()
    with pytest.raises(RunFileError, match=r"run\.seg1\.h5: exists already"):
        started(path)
    started(path, overwrite=True).close()
    with RunReader(path) as run:
        assert run.segments == [path]


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    script = """
writer = declared(sys.argv[1])
writer.start()
for i in (1, 2, 3):
    add(writer, i)
time.sleep(60)
"""
    process = child(script, path := tmp_path / "run.h5")
    while said(process) != "3":
        pass
    with pytest.raises(RunFileError, match=f"still being written by process {process.pid}"):
        RunWriter.resume(path, kind="convergence", config={"a": 1})
    process.kill()
    ended(process)
    with RunReader(path) as run:
        assert run.status == "killed"
    script = """
writer = RunWriter.resume(sys.argv[1], kind="convergence", config={"a": 1})
RunWriter = lambda *arguments, **more: writer
with declared(sys.argv[1]):
    writer.start()
    for i in (3, 4, 5):
        add(writer, i)
"""
    assert ended(child(script, path))[0] == "3\n4\n5\n"
    with RunReader(path) as run:
        assert (run.status, complete_rows(run)) == ("complete", 5)


def test_a_run_killed_on_another_host_is_resumed_on_request(tmp_path: Path) -> None:
    started(path := tmp_path / "run.h5").close()
    with opened(path) as file:
        file["status"][()] = "running"
        file.attrs["host"] = "elsewhere"
    with RunReader(path) as run:
        assert (run.status, run.writer_alive) == ("running", None)
    with pytest.raises(RunFileError, match=r"on elsewhere, 0 s ago; .* with abandoned=True"):
        RunWriter.resume(path, **SETUP)
    with resumed(path, abandoned=True) as writer:
        writer.start()
        with pytest.raises(RunFileError, match="still being written by process"):
            resumed(path, abandoned=True)
    with RunReader(path) as run:
        assert run.status == "complete"


def test_only_the_same_run_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with pytest.raises(RunFileError, match="no such file"):
        RunWriter.resume(path, **SETUP)
    started(path).close("interrupted")
    with pytest.raises(RunFileError, match=r"config must be .* gamma = 0\.1, got 0\.2"):
        RunWriter.resume(path, **{**SETUP, "config": {**SETUP["config"], "gamma": 0.2}})
    with pytest.raises(RunFileError, match=r"seed must be .* 7, got 8"):
        RunWriter.resume(path, **{**SETUP, "seed": 8})
    writer = RunWriter.resume(path, **SETUP)
    writer.scale("step", dtype="i8")
    with pytest.raises(RunFileError, match="the declaration of 'count' differs"):
        writer.start()
    assert list(tmp_path.iterdir()) == [path]
