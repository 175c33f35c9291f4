"""How a run ends is in its file, and a dead writer is told from a living one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import (
    SETUP,
    declare,
    opened,
    started,
    write_steps,
)

from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader, RunWriter, Status
from neurosim.recording.schema import is_alive, process_mark


def test_an_exception_passes_and_is_recorded(tmp_path: Path) -> None:
    def stumble() -> None:
        with RunWriter(tmp_path / "run.h5", **SETUP) as writer:
            declare(writer).start()
            write_steps(writer, {1: 0.5})
            raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        stumble()
    with RunReader(tmp_path / "run.h5") as run:
        assert (run.status, run.message) == ("failed", "ZeroDivisionError: division by zero")
        np.testing.assert_array_equal(run["loss"], [0.5])


def test_the_end_is_recorded_once(tmp_path: Path) -> None:
    with started(tmp_path / "run.h5") as writer:
        writer.close("interrupted", "é" * 2000)
        writer.close("complete")
    with RunReader(tmp_path / "run.h5") as run:
        assert run.status is Status.INTERRUPTED
        assert run.message == "é" * 510 + "…"
    with pytest.raises(RunFileError, match="the writer is closed"):
        writer.flush()
    with pytest.raises(RunFileError, match="the reader is closed; open the file again"):
        run["loss"]


def test_an_unfinished_declaration_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.h5"

    def stumble() -> None:
        with RunWriter(path, **SETUP) as writer:
            assert not path.exists()
            writer.dataset("x", ("none", "none"))

    with pytest.raises(InvalidArgument):
        stumble()
    with RunWriter(path, **SETUP):
        pass
    assert list(path.parent.iterdir()) == []


def test_an_interruption_inside_a_row_takes_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: h5py.Dataset) -> None:
        raise KeyboardInterrupt

    def stumble() -> None:
        with RunWriter(tmp_path / "run.h5", **SETUP) as writer:
            declare(writer).start()
            write_steps(writer, {1: 0.5})
            with monkeypatch.context() as patch:
                patch.setattr(h5py.Dataset, "flush", interrupt)
                write_steps(writer, {2: 0.25})

    with pytest.raises(KeyboardInterrupt):
        stumble()
    with opened(tmp_path / "run.h5") as file:
        assert file["loss"].shape == file["step"].shape == (1,)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "running"),
        ({"process": "another boot 1"}, "killed"),
        ({"pid": 2**22 + 1}, "killed"),
        ({"pid": 2**40}, "killed"),
        ({"pid": -1}, "running"),
        ({"host": "elsewhere", "pid": 2**22 + 1}, "running"),
        ({"process": ""}, "running"),
    ],
)
def test_a_living_writer_is_told_from_a_dead_one(
    tmp_path: Path, change: dict[str, Any], status: str
) -> None:
    started(tmp_path / "run.h5").close()
    with opened(tmp_path / "run.h5") as file:
        file["status"][()] = "running"
        file.attrs.update(change)
    with RunReader(tmp_path / "run.h5") as run:
        assert run.status == status
        assert 0 <= run.age < 60


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_an_unburied_process_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark, host = process_mark(process.pid), os.uname().nodename
    assert mark is not None
    assert is_alive(host, process.pid, mark) is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(host, process.pid, mark) is False
    process.communicate()
