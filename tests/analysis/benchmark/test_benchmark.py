"""Benchmarks: written and read back, and refused with one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from analysis.benchmark.behaviour import Trials
from analysis.benchmark.form import Benchmark, Choices, Dissimilarities, Recording, read_benchmark
from analysis.representations.stimuli import PictureFiles, Pictures
from neurosim.errors import InvalidArgument

COUNT = 12


def benchmark(**changes: Any) -> Any:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (COUNT, 6, 6, 3), np.uint8)
    responses = random.standard_normal((COUNT, 3, 4))
    responses[2, 1] = np.nan
    matrices = random.random((2, COUNT, COUNT))
    matrices = matrices + matrices.transpose(0, 2, 1)
    matrices[:, np.arange(COUNT), np.arange(COUNT)] = 0
    ids = tuple(f"s{number}" for number in range(COUNT))
    columns = (["s0", "s1"], ["a", "b"], ["b", "a"], ["b", "b"])
    trials = Trials(*(np.array(column) for column in columns))
    values = {
        "name": "Test2024",
        "stimuli": Pictures(ids, pixels),
        "measured": {
            "V4": Recording(responses, ("n0", "n1", "n2", "n3")),
            "IT": Dissimilarities(matrices, ("x", "y")),
            "behaviour": Choices(trials, np.arange(COUNT) > 6),
        },
        "objects": tuple("ab" * (COUNT // 2)),
        "degrees": 8.0,
        "citation": "Someone 2024",
    }
    return Benchmark(**{**values, **changes})


def test_round_trip(tmp_path: Path) -> None:
    written = benchmark()
    found: Any = read_benchmark(written.write(tmp_path / "benchmark.h5"))
    folder = read_benchmark(tmp_path)
    for read in (found, folder):
        assert (read.name, read.objects, read.degrees, read.citation) == (
            "Test2024", written.objects, 8.0, "Someone 2024",
        )  # fmt: skip
        assert read.stimuli.ids == written.stimuli.ids
        assert read.stimuli.fingerprint == written.stimuli.fingerprint
        assert list(read.measured) == ["V4", "IT", "behaviour"]
    np.testing.assert_allclose(found.measured["V4"].responses, written.measured["V4"].responses,
                               rtol=1e-6)  # fmt: skip
    assert found.measured["IT"].subjects == ("x", "y")
    assert found.measured["behaviour"].trials.choice.tolist() == ["b", "b"]
    assert found.measured["behaviour"].fitting.sum() == 5


def test_means_leave_out_missing_repetitions() -> None:
    recording = benchmark().measured["V4"]
    np.testing.assert_allclose(recording.mean[2], recording.responses[2, [0, 2]].mean(0))
    assert recording.ceiling(np.arange(COUNT)) is not None
    assert Recording(recording.responses[:, :1], recording.neuroids).ceiling(np.arange(3)) is None


def test_images_beside_the_file(tmp_path: Path) -> None:
    pictures = benchmark().stimuli
    names = tuple(f"images/{name}.png" for name in pictures.ids)
    (tmp_path / "images").mkdir()
    for name, image in zip(names, pictures.pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    held = benchmark(stimuli=PictureFiles(pictures.ids, tmp_path, names))
    found: Any = read_benchmark(held.write(tmp_path / "benchmark.h5").parent)
    np.testing.assert_array_equal(np.stack(found.stimuli.images(0, COUNT)), pictures.pixels)
    shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path, "images")
    shutil.rmtree(tmp_path / "images")
    found: Any = read_benchmark(tmp_path)
    np.testing.assert_array_equal(found.stimuli.images(3, 4)[0], pictures.pixels[3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: benchmark(objects=("a",)),
            "stimuli and responses do not match: 12 stimuli, but object has 1",
        ),
        (
            lambda: benchmark(measured={"V4": Recording(np.eye(9)[:, None], tuple("abcdefghi"))}),
            "12 stimuli, but V4 has 9",
        ),
        (lambda: benchmark(measured={}), "one region or more"),
        (lambda: benchmark(objects=None), "behaviour needs objects"),
        (lambda: benchmark(degrees=-1.0), "degrees must be > 0"),
        (lambda: Recording(np.ones((5, 2, 3)), ("a", "b", "c")), "neuroid 0 .* is constant"),
        (lambda: Recording(np.full((5, 2, 3), np.nan), ("a", "b", "c")), "NaN or Inf"),
        (lambda: Recording(np.eye(5)[:, None], ("a",)), "must each have a name, got 1 for 5"),
        (lambda: Dissimilarities(np.zeros((2, 3, 4)), ("a", "b")), "subjects, stimuli, stimuli"),
    ],
)
def test_bad_contents(make, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()


def test_a_benchmark_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    class Unknown:
        ids = benchmark().stimuli.ids

    path = benchmark().write(tmp_path / "b.h5")
    whole = path.read_bytes()
    other = benchmark(stimuli=Unknown())
    with pytest.raises(InvalidArgument, match="stimuli of kind Unknown have no file"):
        other.write(path)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["b.h5"]


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = benchmark().write(tmp_path / "good.h5")
    for share in (0.1, 0.5, 0.9, 0.99):
        cut = tmp_path / "cut.h5"
        cut.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(InvalidArgument, match="damaged, cut short or not"):
            read_benchmark(cut)
    with pytest.raises(InvalidArgument, match="no such file"):
        read_benchmark(tmp_path / "none.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 2
    with pytest.raises(InvalidArgument, match="has schema version 2"):
        read_benchmark(path)
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "other"
    with pytest.raises(InvalidArgument, match="schema is 'other'"):
        read_benchmark(path)


def test_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    path, secret = benchmark().write(tmp_path / "a.h5"), tmp_path / "b.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros((COUNT, 6, 6, 3), np.uint8)
    with h5py.File(path, "r+") as file:
        del file["pixels"]
        file["pixels"] = h5py.ExternalLink(str(secret), "x")
    with pytest.raises(InvalidArgument, match="'pixels' in / refused"):
        read_benchmark(path)
    with h5py.File(path, "r+") as file:
        del file["pixels"]
        file["file"] = [f"../{number}.png" for number in range(COUNT)]
    with pytest.raises(InvalidArgument, match="lies outside its folder"):
        read_benchmark(path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = benchmark().write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["object"]
        file.create_dataset("object", data=np.void(b"cos\nsystem\n"))
    with pytest.raises(InvalidArgument, match="must hold numbers or text"):
        read_benchmark(path)
