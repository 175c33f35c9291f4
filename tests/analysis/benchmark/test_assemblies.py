"""Brain-Score's files, written here in their official form: by xarray, with several coordinates.

A published assembly has its multi-indexed axes reset to plain coordinates and the array named
`data` (or without a name), as NetCDF 4; a stimulus set is a CSV file and a zip of images.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import xarray
from PIL import Image

from analysis.benchmark.assemblies import (
    read_folder,
    read_neural_benchmark,
    read_stimulus_set,
    read_trials,
)
from analysis.benchmark.netcdf import read_assembly
from neurosim.errors import InvalidArgument

STIMULI, REPETITIONS, NEUROIDS = 12, 3, 5
IDS = [f"{number:02d}abc" for number in range(STIMULI)]


def assembly(*, time_bins: int | None = 1, old: bool = False, seed: int = 0) -> xarray.DataArray:
    """Shuffled presentations, as recorded; V4 and IT neuroids mixed."""
    random = np.random.default_rng(seed)
    order = random.permutation(STIMULI * REPETITIONS)
    stimulus, repetition = order % STIMULI, order // STIMULI
    values = np.round(random.standard_normal((len(order), NEUROIDS)), 3) + stimulus[:, None]
    dims: tuple[str, ...] = ("presentation", "neuroid")
    coordinates = {
        "image_id" if old else "stimulus_id": ("presentation", np.array(IDS)[stimulus]),
        "object_name": ("presentation", np.array(["car", "dog", "face"])[stimulus % 3]),
        "repetition": ("presentation", repetition),
        "neuroid_id": ("neuroid", [f"Chabo_L_{number}" for number in range(NEUROIDS)]),
        "region": ("neuroid", ["V4", "IT", "V4", "IT", "IT"]),
    }
    if time_bins is not None:
        values = np.stack([values + 100 * number for number in range(time_bins)], 2)
        dims = (*dims, "time_bin")
        coordinates["time_bin_start"] = ("time_bin", 70 + 100 * np.arange(time_bins))
        coordinates["time_bin_end"] = ("time_bin", 170 + 100 * np.arange(time_bins))
    return xarray.DataArray(values, dims=dims, coords=coordinates)


def expected(held: xarray.DataArray, region: str) -> np.ndarray:
    """(stimuli, repetitions, neuroids), looked up one presentation at a time."""
    first = held.isel(time_bin=0) if "time_bin" in held.dims else held
    name = "stimulus_id" if "stimulus_id" in held.coords else "image_id"
    columns = np.flatnonzero(held["region"].values == region)
    result = np.full((STIMULI, REPETITIONS, len(columns)), np.nan)
    for row in range(first.sizes["presentation"]):
        stimulus = IDS.index(str(first[name].values[row]))
        result[stimulus, int(first["repetition"].values[row])] = first.values[row, columns]
    return result


def stimulus_set(folder: Path, *, archive: bool = True, degrees: str | None = "8") -> Path:
    """The CSV file and the zip archive of its images, under names of their own."""
    pixels = np.random.default_rng(1).integers(0, 256, (STIMULI, 5, 5, 3), np.uint8)
    rows = []
    images = folder / "stimulus_test"
    images.mkdir()
    for name, image in zip(IDS, pixels, strict=True):
        Image.fromarray(image).save(images / f"{name}.png")
        row = {"stimulus_id": name, "background": "sky, blue", "filename": f"{name}.png"}
        rows.append(row | ({"degrees": degrees} if degrees else {}))
    path = folder / "stimulus_test.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if archive:
        with ZipFile(folder / "stimulus_test.zip", "w") as packed:
            for name in IDS:
                packed.write(images / f"{name}.png", f"{name}.png")
        for image in images.iterdir():
            image.unlink()
        images.rmdir()
    return path


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_published_form(tmp_path: Path, old: bool, compressed: bool) -> None:
    held = assembly(old=old)
    path = tmp_path / "assy_dicarlo_Test2015_public.nc"
    if compressed:
        data = held.to_dataset(name="data", promote_attrs=True)
        encoding = {"data": {"zlib": True, "complevel": 9}}
        data.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    else:
        held.to_netcdf(path, engine="h5netcdf")
    stimulus_set(tmp_path)
    found: Any = read_folder(tmp_path)
    assert found.name == "dicarlo_Test2015_public"
    assert found.stimuli.ids == tuple(IDS)
    assert found.degrees == 8.0
    assert found.objects == tuple(["car", "dog", "face"] * 4)
    assert list(found.measured) == ["IT", "V4"]
    for region in ("V4", "IT"):
        np.testing.assert_allclose(found.measured[region].responses, expected(held, region))
    assert found.measured["IT"].neuroids == ("Chabo_L_1", "Chabo_L_3", "Chabo_L_4")
    assert found.stimuli.images(0, 2)[1].shape == (5, 5, 3)


def test_classic_netcdf(tmp_path: Path) -> None:
    held = assembly(time_bins=None)
    held["repetition"] = held["repetition"].astype(np.int32)
    path = tmp_path / "classic.nc"
    held.to_netcdf(path, engine="scipy")
    assert path.read_bytes()[:3] == b"CDF"
    found: Any = read_neural_benchmark(path, stimulus_set(tmp_path), tmp_path / "stimulus_test.zip")
    np.testing.assert_allclose(found.measured["V4"].responses, expected(held, "V4"))


def test_reads_what_xarray_reads(tmp_path: Path) -> None:
    held = assembly()
    path = tmp_path / "a.nc"
    held.to_netcdf(path, engine="h5netcdf")
    found = read_assembly(path)
    with xarray.open_dataarray(path, engine="h5netcdf") as other:
        assert found.dims == other.dims
        np.testing.assert_array_equal(found.data, other.values)
        assert set(found.coordinates) == set(other.coords)
        for name, (dim, values) in found.coordinates.items():
            assert other[name].dims == (dim,)
            np.testing.assert_array_equal(values, other[name].values)


def test_missing_repetitions_and_values(tmp_path: Path) -> None:
    held = assembly().astype(np.float32)[:-4]
    held[0, 1] = np.nan
    held.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=None)
    found: Any = read_neural_benchmark(tmp_path / "a.nc", stimulus_set(tmp_path),
                                  tmp_path / "stimulus_test.zip")  # fmt: skip
    np.testing.assert_allclose(found.measured["IT"].responses, expected(held, "IT"), rtol=1e-6)
    assert np.isnan(found.measured["IT"].responses).sum() == 4 * 3 + 1


def test_time_bins(tmp_path: Path) -> None:
    held = assembly(time_bins=3)
    held.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    stimulus_set(tmp_path)
    with pytest.raises(InvalidArgument, match="has 3 time bins: say which"):
        read_folder(tmp_path)
    found: Any = read_folder(tmp_path, time_bin=2)
    np.testing.assert_allclose(found.measured["V4"].responses, expected(held, "V4") + 200)
    with pytest.raises(InvalidArgument, match="time_bin must be from 0 to 2, got 3"):
        read_folder(tmp_path, time_bin=3)


def test_trials(tmp_path: Path) -> None:
    """As Rajalingham2018: the array holds the choices themselves."""
    choices = xarray.DataArray(
        np.array(["dog", "car", "dog"]),
        dims="presentation",
        coords={
            "stimulus_id": ("presentation", ["a", "b", "a"]),
            "truth": ("presentation", ["dog", "car", "dog"]),
            "sample_obj": ("presentation", ["dog", "car", "dog"]),
            "dist_obj": ("presentation", ["car", "dog", "bear"]),
        },
    )
    choices.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = read_trials(tmp_path / "a.nc")
    assert found.choice.tolist() == ["dog", "car", "dog"]
    assert found.distractor.tolist() == ["car", "dog", "bear"]
    assert found.stimulus.tolist() == ["a", "b", "a"]


def test_behavioural_benchmark(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    stimulus = np.repeat(np.arange(STIMULI), 4)
    truth = np.array(["car", "dog", "face"])[stimulus % 3]
    other = np.array(["car", "dog", "face"])[(stimulus + random.integers(1, 3, 48)) % 3]
    choices = xarray.DataArray(
        np.where(random.random(48) < 0.7, truth, other),
        dims="presentation",
        coords={
            "image_id": ("presentation", np.array(IDS)[stimulus]),
            "truth": ("presentation", truth),
            "dist_obj": ("presentation", other),
        },
    )
    choices.to_netcdf(tmp_path / "assy_dicarlo_Choices.nc", engine="h5netcdf")
    table = stimulus_set(tmp_path)
    with pytest.raises(InvalidArgument, match="must have one of the columns image_label"):
        read_folder(tmp_path)
    lines = table.read_text().splitlines()
    labels = ["image_label", *np.array(["car", "dog", "face"])[np.arange(STIMULI) % 3]]
    table.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, labels, strict=True)) + "\n")
    found: Any = read_folder(tmp_path)
    assert found.name == "dicarlo_Choices"
    assert found.objects == tuple(labels[1:])
    assert found.measured["behaviour"].fitting.all()
    assert found.measured["behaviour"].trials.choice.tolist() == choices.values.tolist()


def write(tmp_path: Path, held: xarray.DataArray) -> None:
    held.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.drop_vars("region"), "must have the coordinate region along 'neuroid'"),
        (lambda a: a.drop_vars("stimulus_id"), "coordinate stimulus_id or image_id"),
        (lambda a: a.drop_vars("repetition"), "more than once with the same repetition"),
        (lambda a: a.rename(neuroid="channel"), "must have the axes presentation, neuroid"),
        (
            lambda a: a.assign_coords(
                stimulus_id=("presentation", [f"{n}z" for n in range(a.sizes["presentation"])])
            ),
            "stimuli and responses do not match: 36 stimuli",
        ),
        (lambda a: a * 0, "must vary over stimuli"),
    ],
)
def test_bad_assemblies(tmp_path: Path, change, message: str) -> None:
    write(tmp_path, change(assembly()))
    stimulus_set(tmp_path)
    with pytest.raises(InvalidArgument, match=message):
        read_folder(tmp_path)


def test_bad_files(tmp_path: Path) -> None:
    write(tmp_path, assembly())
    with pytest.raises(InvalidArgument, match=r"must hold one \.csv file, holds 0"):
        read_folder(tmp_path)
    stimulus_set(tmp_path, archive=False, degrees=None)
    assert read_folder(tmp_path).degrees is None
    path = tmp_path / "a.nc"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InvalidArgument, match="damaged, cut short or not"):
        read_assembly(path)
    path.write_bytes(b"CDF\x01" + b"\0" * 20)
    with pytest.raises(InvalidArgument, match=r"damaged, cut short or not|expected one array"):
        read_assembly(path)
    with pytest.raises(InvalidArgument, match="no such file"):
        read_assembly(tmp_path / "none.nc")
    table = tmp_path / "stimulus_test.csv"
    table.write_text("name,filename\na,b\n")
    with pytest.raises(InvalidArgument, match="must have rows with the column stimulus_id"):
        read_stimulus_set(table)
