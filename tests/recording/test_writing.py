"""What may be declared and written, when and where: anything else is one clear sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from runs import (
    SETUP,
    declare,
    started,
    write_steps,
)

from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader, RunWriter


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
