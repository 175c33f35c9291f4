"""Run files: readable at any moment, by any reader, and never a way to run code."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import neurosim.recording
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader, RunWriter, Status, describe_lines
from neurosim.recording.schema import is_alive, process_mark

HOME = Path(neurosim.recording.__file__).parents[2]
SETUP: dict[str, Any] = {
    "kind": "convergence",
    "config": {"gamma": 0.1, "sizes": [3, 4]},
    "seed": 7,
}

PRELUDE = """
import os, sys, time
import numpy as np
from neurosim.recording import RunWriter

def declared(path, **more):
    writer = RunWriter(path, kind="convergence", config={"a": 1}, **more)
    writer.scale("step", dtype="i8")
    writer.scale("setting", ["few", "many"])
    writer.scale("place", np.arange(60))
    writer.dataset("loss", ("step",))
    writer.dataset("net/weight", ("step", "place"), "f4")
    writer.dataset("net/packed", ("step", "place"), "f4", compression="gzip")
    writer.dataset("snr", ("setting", "place"))
    return writer

def add(writer, i):
    row = np.full(60, i, "f4")
    writer.append("step", {"step": i, "loss": i / 2, "net/weight": row, "net/packed": -row})
    os.write(1, b"%d\\n" % i)
"""


CHILDREN: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def no_child_survives() -> Iterator[None]:
    yield
    for process in CHILDREN:
        process.kill()
        process.communicate()
    CHILDREN.clear()


def child(script: str, *arguments: object) -> subprocess.Popen:
    """Run `script` with the declarations above in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    CHILDREN.append(process)
    return process


def ended(process: subprocess.Popen) -> tuple[str, str]:
    """What a child printed on both channels up to its end."""
    return process.communicate(timeout=30)


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write_steps(writer: RunWriter, values: dict[int, float]) -> None:
    for step, loss in values.items():
        writer.append("step", {"step": step, "loss": loss})


def declare(writer: RunWriter) -> RunWriter:
    writer.scale("step", dtype="i8")
    writer.scale("setting", ["few", "many"], description="how many neurons")
    writer.scale("trial", np.arange(3))
    writer.scale("presentation", np.arange(5), units="presentations")
    writer.dataset("loss", ("step",), description="loss of the step")
    writer.dataset("snr", ("setting", "trial", "presentation"), description="1/SNR")
    writer.dataset("count", ("setting",), "i4")
    writer.constant("settings/gamma", [0.1, 0.2], ("setting",), units="1/s")
    writer.constant("note", "größer")
    return writer


def started(path: Path, **more: Any) -> RunWriter:
    writer = declare(RunWriter(path, **{**SETUP, **more}))
    writer.start()
    return writer


def opened(path: Path) -> Any:
    return h5py.File(path, "r+")


def complete_rows(run: RunReader) -> int:
    """Number of rows, all of them whole and as written by `add`."""
    step = run["step"]
    np.testing.assert_array_equal(step, np.arange(1, len(step) + 1))
    np.testing.assert_array_equal(run["loss"], step / 2)
    np.testing.assert_array_equal(run["net/weight"], np.repeat(step[:, None], 60, axis=1))
    np.testing.assert_array_equal(run["net/packed"], -np.repeat(step[:, None], 60, axis=1))
    return len(step)


# Written by another process


@pytest.mark.parametrize("number", range(8))
def test_a_killed_run_has_exactly_its_complete_rows(tmp_path: Path, number: int) -> None:
    script = """
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 10**9):
        add(writer, i)
        writer.write("snr", np.full(60, float(i)), index=i % 2)
        if i % 5 == 0:
            writer.flush()
"""
    process = child(script, path := tmp_path / "run.h5")
    said(process)
    time.sleep(np.random.default_rng(number).uniform(0, 0.1))
    process.kill()
    acknowledged = int(ended(process)[0].split("\n")[-2] or 1)

    with RunReader(path) as run:
        assert run.status == "killed"
        assert complete_rows(run) in (acknowledged, acknowledged + 1)
        assert run["snr"].shape == (2, 60)
        assert "killed: the writing process is gone; what was recorded is readable" in "\n".join(
            describe_lines(run)
        )
        assert run.age < 60


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    script = """
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 251):
        add(writer, i)
    writer.write("snr", np.ones(60), index=1)
    writer.flush()
    print("flushed", flush=True)
    sys.stdin.readline()
"""
    process = child(script, path := tmp_path / "run.h5")
    said(process)
    seen = []
    with RunReader(path) as run:
        while not seen or seen[-1] < 250:
            assert run.status == "running"
            seen.append(complete_rows(run))
            assert complete_rows(run) == seen[-1]  # still until refreshed
            run.refresh()
        assert seen == sorted(seen)
        assert len(set(seen)) > 2
        while said(process) != "flushed":
            pass
        run.refresh()
        np.testing.assert_array_equal(run["snr"], np.stack([np.full(60, np.nan), np.ones(60)]))
        process.communicate("\n", timeout=30)
        run.refresh()
        assert run.status == "complete"
    with RunReader(path) as run:
        assert (run.status, complete_rows(run)) == ("complete", 250)


@pytest.mark.parametrize("number", range(4))
def test_ctrl_c_leaves_an_interrupted_run_of_whole_rows(tmp_path: Path, number: int) -> None:
    script = """
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 10**9):
        add(writer, i)
"""
    process = child(script, path := tmp_path / "run.h5")
    said(process)
    time.sleep(np.random.default_rng(number).uniform(0, 0.1))
    process.send_signal(signal.SIGINT)
    output, errors = ended(process)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    with RunReader(path) as run:
        assert run.status == "interrupted"
        acknowledged = int(([1, *output.split()])[-1])
        assert complete_rows(run) in (acknowledged, acknowledged + 1)
    with opened(path) as file:
        assert len({len(file[name]) for name in ("step", "loss", "net/weight")}) == 1


def test_a_full_disk_leaves_a_failed_run_and_one_sentence(tmp_path: Path) -> None:
    script = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 10**5):
        add(writer, i)
"""
    process = child(script, path := tmp_path / "run.h5")
    output, errors = ended(process)
    assert process.returncode == 1
    assert errors.splitlines()[-1].endswith(
        "run.h5: could not be written (File too large); is the disk full?"
    )
    with RunReader(path) as run:
        assert run.status == "failed"
        assert "is the disk full?" in run.message
        assert complete_rows(run) == int(output.split()[-1])


def test_only_numpy_and_h5py_are_imported() -> None:
    script = (
        "import sys, neurosim.recording;"
        "print([m for m in ('torch', 'scipy', 'numba', 'brian2') if m in sys.modules])"
    )
    assert said(child(script)) == "[]"


# How a run ends


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


# The rules of writing


@pytest.mark.parametrize(
    "late",
    [
        lambda w: w.scale("late", [1, 2]),
        lambda w: w.dataset("late", ("setting",)),
        lambda w: w.constant("late", 1),
        lambda w: w.attribute("late", 1),
    ],
)
def test_nothing_is_declared_after_the_start(
    tmp_path: Path, late: Callable[[RunWriter], None]
) -> None:
    with started(tmp_path / "run.h5") as writer:
        with pytest.raises(RunFileError, match=r"'late' cannot be declared after start\(\)"):
            late(writer)
        with pytest.raises(RunFileError, match="called already"):
            writer.start()
    with h5py.File(tmp_path / "run.h5") as file:
        assert "late" not in file
        assert "late" not in file.attrs


def test_nothing_is_written_before_the_start(tmp_path: Path) -> None:
    with declare(RunWriter(tmp_path / "run.h5", **SETUP)) as writer:
        with pytest.raises(RunFileError, match=r"call start\(\) before"):
            writer.write("snr", 1)
        with pytest.raises(RunFileError, match=r"call start\(\) before"):
            writer.append("step", {})
        with pytest.raises(RunFileError, match=r"call start\(\) before"):
            writer.flush()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda w: w.scale("scale", [[1]]), "scale must be one-dimensional"),
        (lambda w: w.scale("scale"), "dtype must be a numpy dtype of integers"),
        (lambda w: w.scale("scale", dtype="U3"), "dtype must be a numpy dtype of integers"),
        (lambda w: w.scale("status", [1]), "'status' is reserved"),
        (lambda w: w.scale("trial", [1]), "'trial' is taken already"),
        (lambda w: w.constant("trial/x", 1), "'trial/x' is taken already"),
        (lambda w: w.constant("settings", 1), "'settings' is taken already"),
        (lambda w: w.constant("../x", 1), "must be words joined by '/'"),
        (lambda w: w.constant("x", object()), "'x' must be numbers or text, got 'object'"),
        (lambda w: w.constant("x", [1, 2], ("trial",)), r"must have the shape \(3,\)"),
        (lambda w: w.constant("x", [], ("step",)), "none of them appendable"),
        (lambda w: w.dataset("x", ("epoch",)), r"'epoch' of 'x' is not declared.*scale\(\) first"),
        (lambda w: w.dataset("x", ("snr",)), "'snr' of 'x' is not declared"),
        (lambda w: w.dataset("x", ("trial", "trial")), "different scales"),
        (lambda w: w.dataset("x", "trial"), "different scales"),
        (lambda w: w.dataset("x", ("trial", "step")), "'step' must come first"),
        (lambda w: w.dataset("x", ("trial",), "O"), "dtype must be a numpy dtype of booleans"),
        (lambda w: w.dataset("x", ("trial",), "nonsense"), "dtype must be a numpy dtype"),
        (lambda w: w.dataset("x", ("trial",), chunks=(1, 1)), "chunks of 'x'"),
        (lambda w: w.dataset("x", ("trial",), compression="none"), "'x' cannot be declared"),
        (lambda w: w.attribute("schema", "mine"), "'schema' is there already"),
    ],
)
def test_wrong_declarations_are_explained(
    tmp_path: Path, wrong: Callable[[RunWriter], None], message: str
) -> None:
    writer = declare(RunWriter(tmp_path / "run.h5", **SETUP))
    with writer, pytest.raises((RunFileError, InvalidArgument), match=message) as caught:
        wrong(writer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda w: w.append("step", {"step": 2}), "but it lacks 'loss'"),
        (lambda w: w.append("step", {"step": 2, "loss": 1, "los": 1}), "unknown column 'los'"),
        (lambda w: w.append("step", {"step": 2, "loss": [1]}), r"'loss' must have the shape \(\)"),
        (lambda w: w.append("step", {"step": 2, "loss": "a"}), "'loss' must hold float64"),
        (lambda w: w.append("step", {"step": 2.5, "loss": 1}), "'step' must hold int64"),
        (lambda w: w.append("step", {"step": 0, "loss": 1}), "must not decrease, got 0 after 1"),
        (lambda w: w.append("trial", {"trial": 0}), "not an appendable scale; use write"),
        (lambda w: w.append("epoch", {"epoch": 0}), "dataset must be one of"),
        (lambda w: w.write("los", 1), r"did you mean 'loss'\?"),
        (lambda w: w.write("loss", 1), r"'loss' grows by rows; use append\('step'"),
        (lambda w: w.write("step", 1), r"'step' grows by rows; use append\('step'"),
        (lambda w: w.write("note", "b"), "keeps them"),
        (lambda w: w.write("trial", [1, 2, 3]), "keeps them"),
        (lambda w: w.write("snr", np.ones(4), (0, 0)), r"must have the shape \(5,\) there"),
        (lambda w: w.write("snr", np.ones(5), (0, 3)), r"must lie within \(2, 3, 5\), got \(0, 3"),
        (lambda w: w.write("snr", np.ones(5), (0, -1)), r"must lie within \(2, 3, 5\)"),
        (lambda w: w.write("snr", 1.0, (0, 0, 0, 0)), r"must fit its shape \(2, 3, 5\)"),
        (lambda w: w.write("snr", np.ones(5) * 1j, (0, 0)), "must hold float64 values"),
        (lambda w: w.write("snr", [[1], [1, 2]], (0, 0)), "must be an array of shape"),
        (lambda w: w.write("count", 2**40, 0), "'count' must hold int32 values, got int64"),
    ],
)
def test_wrong_values_are_explained_and_change_nothing(
    tmp_path: Path, wrong: Callable[[RunWriter], None], message: str
) -> None:
    with started(tmp_path / "run.h5") as writer:
        write_steps(writer, {1: 0.5})
        with pytest.raises((RunFileError, InvalidArgument), match=message) as caught:
            wrong(writer)
        assert "\n" not in str(caught.value)
        write_steps(writer, {2: 0.25})
    with RunReader(tmp_path / "run.h5") as run:
        np.testing.assert_array_equal(run["loss"], [0.5, 0.25])
        assert np.isnan(run["snr"]).all()
        np.testing.assert_array_equal(run["count"], [0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "convergense"}, "did you mean 'convergence'"),
        ({"config": {"x": object()}}, "config must be representable as JSON"),
        ({"seed": 0.5}, "seed must be an integer, got 0.5"),
    ],
)
def test_wrong_arguments_leave_no_file(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        RunWriter(tmp_path / "run.h5", **{**SETUP, **change})
    assert list(tmp_path.iterdir()) == []


# The file's place


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(before := b"precious")
    with pytest.raises(RunFileError, match=r"run\.h5: exists already; .* overwrite=True"):
        RunWriter(path, **SETUP)
    assert path.read_bytes() == before
    with started(path, overwrite=True):
        pass
    with RunReader(path) as run:
        assert run.status == "complete"


def test_a_file_that_appears_during_the_declaration_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    writer = declare(RunWriter(path, **SETUP))
    path.write_bytes(b"precious")
    with pytest.raises(RunFileError, match="exists already"):
        writer.start()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_in_progress_is_not_overwritten(tmp_path: Path) -> None:
    with (
        started(path := tmp_path / "run.h5"),
        pytest.raises(RunFileError, match=f"still being written by process {os.getpid()}"),
    ):
        RunWriter(path, **SETUP, overwrite=True)


def test_an_impossible_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFileError, match=r"run\.h5: cannot be created \(.*is not a folder\)"):
        RunWriter(tmp_path / "file" / "run.h5", **SETUP)
    with pytest.raises(RunFileError, match="is a folder; give the name of a file"):
        RunWriter(tmp_path, **SETUP, overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_missing_permission_is_named(tmp_path: Path) -> None:
    started(path := tmp_path / "run.h5").close()
    path.chmod(0)
    with pytest.raises(RunFileError, match=r"run\.h5: cannot be read \(Permission denied\)"):
        RunReader(path)
    tmp_path.chmod(0o500)
    with pytest.raises(RunFileError, match=r"new\.h5: cannot be created \(Permission denied\)"):
        RunWriter(tmp_path / "new.h5", **SETUP)


# Segments of a resumed run


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


# Reading what comes


def test_what_was_written_is_read(tmp_path: Path) -> None:
    config = {"text": "ä" * 100_000, "nested": {"list": [1, 2.5, None, True]}}
    with RunWriter(tmp_path / "run.h5", "training", config, seed=3, device="cuda:0") as writer:
        writer.attribute("title", "a title")
        writer.attribute("names", ["a", "b"])
        writer.scale("half", [0.5, 1.0], dtype="f4")
        declare(writer)
        writer.dataset("flag", ("step",), "?")
        writer.dataset("packed", ("setting", "trial"), "c8", compression="gzip", chunks=(1, 3))
        writer.dataset("one", ())
        writer.start()
        writer.append("step", {"step": 3, "loss": 1, "flag": True})
        writer.write("packed", [1, 2j, 3], index=1)
        writer.write("snr", np.ones((2, 5)), index=(1, slice(1, 3)))
        writer.write("one", 4)
    with RunReader(tmp_path / "run.h5") as run:
        assert (run.kind, run.config, run.seed) == ("training", config, 3)
        assert run.attributes["device"] == "cuda:0"
        assert run.attributes["title"] == "a title"
        assert run.attributes["names"] == ["a", "b"]
        assert run.attributes["schema"] == "neurosim.run"
        assert run.attributes["schema_version"] == 1
        assert run.libraries["h5py"] == h5py.__version__
        assert run.created.endswith("+00:00")
        assert run.names() == sorted(run.names())
        assert "status" not in run.names()
        assert run.dims("snr") == ("setting", "trial", "presentation")
        assert run.dims("settings/gamma") == ("setting",)
        about = run.describe("loss")
        assert (about.shape, about.dtype, about.description) == ((1,), "f8", "loss of the step")
        assert run.describe("settings/gamma").units == "1/s"
        assert str(run["note"]) == "größer"
        assert run["flag"].dtype == bool
        assert run["half"].dtype == np.float32
        np.testing.assert_array_equal(run["packed"][1], [1, 2j, 3])
        assert np.isnan(run["packed"][0]).all()
        assert run["one"] == 4
        np.testing.assert_array_equal(run.read("snr", (1, ..., 0)), [np.nan, 1, 1])
        for index in ((0, 0, 0, 0), 2, (0, slice(None, None, -1)), "snr", (..., ...)):
            with pytest.raises(InvalidArgument, match="index of 'snr' must"):
                run.read("snr", index)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match=r"did you mean 'snr'\?"):
            run["sn"]

        lines = describe_lines(run)
        assert "status: complete" in lines
        assert "  loss (step 1) float64: loss of the step; 1 rows" in lines
        assert "  snr (setting 2, trial 3, presentation 5) float64: 1/SNR; 33% filled" in lines
        assert "  settings/gamma (setting 2) float64 [1/s]" in lines
        assert "  one () float64; 100% filled" in lines


def test_git_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    started(tmp_path / "run.h5").close()
    with RunReader(tmp_path / "run.h5") as run:
        assert run.attributes["git_commit"] == ""


@pytest.mark.filterwarnings("error")
def test_xarray_labels_the_axes(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with started(path := tmp_path / "run.h5") as writer:
        write_steps(writer, {10: 0.5, 20: 0.25})
        writer.write("snr", np.ones((3, 5)), index=1)
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        assert data["snr"].dims == ("setting", "trial", "presentation")
        assert data["snr"].attrs["long_name"] == "1/SNR"
        assert float(data["snr"].sel(setting="many", trial=2, presentation=4)) == 1
        assert float(data["loss"].sel(step=20)) == 0.25
        assert data["presentation"].attrs["units"] == "presentations"
        assert str(data["note"].values) == "größer"
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert float(tree["settings/gamma"].sel(setting="many")) == 0.2


def other_schema(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = "something else"


def newer_version(path: Path) -> None:
    started(path).close()
    with opened(path) as file:
        file.attrs["schema_version"] = 2


def less(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        started(path).close()
        with opened(path) as file:
            del (file.attrs if name in file.attrs else file)[name]

    return make


def cut(part: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        started(path).close()
        os.truncate(path, int(path.stat().st_size * part))

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file; expected a run file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_text("step,loss\n"), "not HDF5; expected a run file"),
        (lambda path: path.write_bytes(b""), "not HDF5; expected a run file"),
        (cut(0.9), "damaged or cut short"),
        (lambda path: path.write_bytes(b"\x89HDF"), "not HDF5"),
        (other_schema, "expected HDF5 with the attribute schema = 'neurosim.run', got 'something"),
        (lambda path: h5py.File(path, "w").close(), "expected HDF5 with the attribute schema"),
        (newer_version, "schema version 2, but this neurosim reads up to version 1; update"),
        (less("seed"), "damaged, attribute 'seed' must be int, got None"),
        (less("status"), "damaged"),
        (less("step"), "damaged"),
    ],
)
def test_other_files_are_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(path := tmp_path / "run.h5")
    with pytest.raises(RunFileError, match=message) as caught:
        RunReader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_a_killed_run_is_refused_without_delay(tmp_path: Path) -> None:
    script = "w = declared(sys.argv[1]); w.start(); add(w, 1); os.kill(os.getpid(), 9)"
    ended(child(script, path := tmp_path / "run.h5"))
    whole = path.read_bytes()
    begun = time.monotonic()
    for size in (20, 40, 60, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(RunFileError, match=r"cut short"):
            RunReader(path)
    for place in (20, 60, 200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(RunFileError, match="damaged or cut short"):
            RunReader(path)
    assert time.monotonic() - begun < 5


class Bomb:
    """Leaves a trace if it is ever unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


def add_object(file: h5py.File, bomb: bytes) -> None:
    file.create_dataset("x", data=np.frombuffer(bomb, "u1"), dtype="u1")
    file.create_dataset("y", (1,), dtype=h5py.vlen_dtype(np.dtype("u1")))[0] = np.frombuffer(
        bomb, "u1"
    )


def add_virtual(file: h5py.File, bomb: bytes) -> None:
    layout = h5py.VirtualLayout((1,), "u1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (1,))
    file.create_virtual_dataset("x", layout)


def replace_config(file: h5py.File, bomb: bytes) -> None:
    file.attrs["config"] = np.void(bomb)


@pytest.mark.parametrize(
    "poison",
    [
        add_object,
        add_virtual,
        replace_config,
        lambda file, bomb: file.create_dataset("x", data=np.void(bomb)),
        lambda file, bomb: file.create_dataset("x", data=file.ref, dtype=h5py.ref_dtype),
        lambda file, bomb: file.create_dataset(
            "x", (8,), "u1", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
        ),
        lambda file, bomb: file.create_dataset("x", data=np.zeros(1, [("a", "i4")])),
    ],
)
def test_only_numbers_and_text_are_read(
    tmp_path: Path, poison: Callable[[h5py.File, bytes], None]
) -> None:
    started(path := tmp_path / "run.h5").close()
    with opened(path) as file:
        poison(file, pickle.dumps(Bomb(tmp_path / "trace")))
    with pytest.raises(RunFileError, match="refused"):
        RunReader(path)
    assert not (tmp_path / "trace").exists()


def test_a_pickle_as_text_or_bytes_stays_what_it_is(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "trace"), protocol=0)
    started(path := tmp_path / "run.h5").close()
    with opened(path) as file:
        file.attrs["extra"] = bomb
        file["note"][()] = bomb
        file["elsewhere"] = h5py.ExternalLink("/nowhere.h5", "x")
    with RunReader(path) as run:
        assert str(run["note"]).encode() == bomb
        assert run.attributes["extra"].encode() == bomb
        assert "elsewhere" not in run.names()
        describe_lines(run)
    assert not (tmp_path / "trace").exists()
