"""What was written is read, and nothing that is read runs code."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import (
    child,
    declare,
    ended,
    opened,
    started,
    write_steps,
)

from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader, RunWriter, describe_lines, describe_values


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
        assert run.notes == {"title": "a title", "names": ["a", "b"]}
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
        assert "title: a title" in lines
        assert json.loads(json.dumps(describe_values(run)))["notes"]["names"] == ["a", "b"]


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


def test_a_reader_is_a_collection_of_names(tmp_path: Path) -> None:
    started(tmp_path / "run.h5").close()
    with RunReader(tmp_path / "run.h5") as run:
        assert list(run) == run.names()
        assert len(run) == len(run.names()) > 0
        for name in run:
            assert name in run
        assert "no such thing" not in run
        assert 0 not in run
        assert repr(run) == (
            f"<RunReader of {tmp_path / 'run.h5'}: {run.kind}, complete, {len(run)} datasets>"
        )
    assert repr(run) == f"<RunReader of {tmp_path / 'run.h5'}, closed>"
    assert run  # a reader is true even if it is empty or closed


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
