"""Brain-Score's public data as they are published: NetCDF assemblies and CSV stimulus sets.

An assembly is one array whose axes carry several coordinates each: presentations with the
`stimulus_id` (once `image_id`), `repetition` and what was shown, neuroids with `neuroid_id`,
`region` and where they are, and time bins. NetCDF 4 is HDF5 with dimension scales, so that h5py
reads it; NetCDF 3 is read by scipy. The stimulus set is a CSV file with a row per stimulus,
beside a folder or zip archive of images.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import netcdf_file

from analysis.benchmark.behaviour import Trials
from analysis.benchmark.form import Benchmark, Choices, Recording, inner_paths
from analysis.benchmark.plain_hdf5 import attribute, contents, member, opened, values
from analysis.representations.stimuli import PictureFiles
from neurosim.errors import InvalidArgument

WHAT = "a NetCDF assembly of Brain-Score"
OBJECTS = ("object_name", "texture_type")
"""What Brain-Score's benchmarks balance splits over: MajajHong2015 and FreemanZiemba2013."""

NAMES = ("stimulus_id", "image_id")
FILES = ("filename", "image_file_name", "stimulus_path_within_store", "image_path_within_store")
LABELS = ("image_label", "sample_obj", "image_sample_obj", "object_name")


@dataclass(frozen=True, eq=False)
class Assembly:
    """An array, the names of its axes, and coordinates along them."""

    path: Path
    data: NDArray[Any]
    dims: tuple[str, ...]
    coordinates: Mapping[str, tuple[str, NDArray[Any]]]  # by name, the axis and the values

    def along(self, dim: str, *names: str) -> NDArray[Any]:
        """The first of the coordinates that there is, one value for each place of the axis."""
        for name in names:
            if name in self.coordinates and self.coordinates[name][0] == dim:
                return self.coordinates[name][1]
        raise InvalidArgument(
            f"{self.path}: must have the coordinate {' or '.join(names)} along {dim!r}, "
            f"has {', '.join(sorted(self.coordinates)) or 'none'}"
        )

    def has(self, dim: str, name: str) -> bool:
        """Whether there is such a coordinate."""
        return name in self.coordinates and self.coordinates[name][0] == dim

    def ordered(self, *dims: str) -> NDArray[Any]:
        """The array with these axes, in this order."""
        if set(dims) != set(self.dims):
            raise InvalidArgument(
                f"{self.path}: must have the axes {', '.join(dims)}, has {', '.join(self.dims)}"
            )
        return self.data.transpose([self.dims.index(dim) for dim in dims])

    def at(self, dim: str, index: int) -> Assembly:
        """The array at one place of an axis, which is gone then."""
        axis = self.dims.index(dim)
        rest = {name: held for name, held in self.coordinates.items() if held[0] != dim}
        dims = tuple(name for name in self.dims if name != dim)
        return Assembly(self.path, self.data.take(index, axis), dims, rest)


def _begins_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def read_assembly(path: str | Path) -> Assembly:
    """Read a NetCDF file, of version 4 or 3."""
    path = Path(path)
    if path.is_file() and _begins_with(path, b"CDF"):
        variables = _read_netcdf3(path)
    else:
        variables = _read_netcdf4(path)
    named = {name for _, _, others in variables.values() for name in others}
    axes = {dim for dims, _, _ in variables.values() for dim in dims}
    found = [name for name in variables if name not in named and name not in axes]
    if len(found) != 1:
        raise InvalidArgument(
            f"{path}: not {WHAT}: expected one array with coordinates, got "
            f"{', '.join(found) or 'none'}"
        )
    dims, data, _ = variables.pop(found[0])
    coordinates = {name: (d[0], held) for name, (d, held, _) in variables.items() if len(d) == 1}
    return Assembly(path, data, dims, coordinates)


def read_neural_benchmark(
    assembly: str | Path,
    stimulus_set: str | Path,
    images: str | Path,
    *,
    name: str | None = None,
    degrees: float | None = None,
    time_bin: int | None = None,
) -> Benchmark:
    """A benchmark from an assembly of neural responses, its stimulus set and its images.

    Args:
        assembly: the NetCDF file.
        stimulus_set: the CSV file.
        images: the folder or zip archive of the images.
        name: of the benchmark (default: that of the assembly's file).
        degrees: width of the stimuli (default: the stimulus set's column `degrees`).
        time_bin: which one, if there are several.
    """
    held = _without_time(read_assembly(assembly), time_bin)
    table = read_stimulus_set(stimulus_set)
    shown = held.along("presentation", *NAMES).astype(str)
    ids = tuple(np.unique(shown).tolist())
    known = {row["stimulus_id"]: row for row in table}
    if lacking := [stimulus for stimulus in ids if stimulus not in known]:
        raise InvalidArgument(
            f"{stimulus_set}: stimuli and responses do not match: {len(lacking)} stimuli of "
            f"{held.path} are not in it, such as {lacking[0]!r}"
        )
    rows = [known[stimulus] for stimulus in ids]
    responses = _by_repetition(held, shown, ids)
    neuroids = held.along("neuroid", "neuroid_id").astype(str)
    regions = held.along("neuroid", "region").astype(str)
    measured = {
        region: Recording(responses[:, :, regions == region],
                          tuple(neuroids[regions == region].tolist()))
        for region in np.unique(regions).tolist()
    }  # fmt: skip
    files = inner_paths(Path(stimulus_set), tuple(_file(row) for row in rows))
    return Benchmark(
        name=name or _stem(assembly),
        stimuli=PictureFiles(ids, Path(images), files),
        measured=measured,
        objects=_objects(held, shown, rows),
        degrees=degrees if degrees is not None else _degrees(rows),
    )


def read_behavioural_benchmark(
    assembly: str | Path, stimulus_set: str | Path, images: str | Path, *, name: str | None = None,
    degrees: float | None = None,
) -> Benchmark:  # fmt: skip
    """A benchmark from an assembly of choices, such as Rajalingham2018.public.

    As in Brain-Score's public benchmark, classifiers learn from all stimuli of the set, also from
    those that the trials are about.
    """
    trials, table = read_trials(assembly), read_stimulus_set(stimulus_set)
    label = next((label for label in LABELS if label in table[0]), None)
    if label is None:
        raise InvalidArgument(f"{stimulus_set}: must have one of the columns {', '.join(LABELS)}")
    ids = tuple(row["stimulus_id"] for row in table)
    if lacking := sorted(set(trials.stimulus.tolist()) - set(ids)):
        raise InvalidArgument(
            f"{stimulus_set}: stimuli and responses do not match: {len(lacking)} stimuli of "
            f"{assembly} are not in it, such as {lacking[0]!r}"
        )
    files = inner_paths(Path(stimulus_set), tuple(_file(row) for row in table))
    return Benchmark(
        name=name or _stem(assembly),
        stimuli=PictureFiles(ids, Path(images), files),
        measured={"behaviour": Choices(trials, np.ones(len(ids), bool))},
        objects=tuple(row[label] for row in table),
        degrees=degrees if degrees is not None else _degrees(table),
    )


def read_trials(path: str | Path) -> Trials:
    """Two-alternative choices from a behavioural assembly, such as Rajalingham2018's."""
    held = read_assembly(path)
    if held.dims != ("presentation",):
        raise InvalidArgument(f"{path}: choices must lie along presentations, not {held.dims}")

    def column(*names: str) -> NDArray[np.str_]:
        return held.along("presentation", *names).astype(str)

    truth = column("truth", "sample_obj")
    return Trials(column(*NAMES), truth, column("dist_obj"), held.data.astype(str))


def read_stimulus_set(path: str | Path) -> list[dict[str, str]]:
    """The rows of a stimulus set, each with a `stimulus_id`."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgument(f"{path}: cannot be read as a stimulus set ({error})") from error
    name = next((name for name in NAMES if rows and name in rows[0]), None)
    if name is None:
        raise InvalidArgument(f"{path}: must have rows with the column {' or '.join(NAMES)}")
    return [{**row, "stimulus_id": row[name]} for row in rows]


def read_folder(path: str | Path, **options: Any) -> Benchmark:
    """A benchmark from a folder with one NetCDF file, one CSV file and the images.

    The images lie in the folder, in the only folder within it, or in the only zip archive.
    """
    folder = Path(path)
    found = {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in (".nc", ".csv")}
    for suffix, files in found.items():
        if len(files) != 1:
            raise InvalidArgument(f"{folder}: must hold one {suffix} file, holds {len(files)}")
    places = [p for p in sorted(folder.iterdir()) if p.is_dir() or p.suffix == ".zip"]
    if len(places) > 1:
        many = ", ".join(place.name for place in places)
        raise InvalidArgument(f"{folder}: must hold one folder or archive of images, holds {many}")
    images = places[0] if places else folder
    files = (found[".nc"][0], found[".csv"][0], images)
    choices = read_assembly(files[0]).dims == ("presentation",)
    read = read_behavioural_benchmark if choices else read_neural_benchmark
    return read(*files, **options)


# Files

Variable = tuple[tuple[str, ...], NDArray[Any], tuple[str, ...]]  # axes, values, coordinates


def _read_netcdf4(path: Path) -> dict[str, Variable]:
    with opened(path, WHAT) as file:
        found: dict[str, Variable] = {}
        for name in contents(file):
            item = member(file, name)
            if isinstance(item, h5py.Dataset) and not _bare_dimension(item):
                dims = (name,) if item.is_scale else _axes(item)
                coordinates = tuple(str(attribute(item, "coordinates", "")).split())
                found[name] = (dims, _filled(item, values(file, name)), coordinates)
        return found


def _bare_dimension(item: h5py.Dataset) -> bool:
    """Whether it only says how long an axis is."""
    return str(attribute(item, "NAME", "")).startswith("This is a netCDF dimension but not")


def _axes(item: h5py.Dataset) -> tuple[str, ...]:
    if any(len(dim) != 1 for dim in item.dims):
        raise InvalidArgument(f"{item.file.filename}: the axes of {item.name} have no names")
    return tuple(str(dim[0].name).rpartition("/")[2] for dim in item.dims)


def _filled(item: h5py.Dataset, array: NDArray[Any]) -> NDArray[Any]:
    """NaN where the file says that there is no value; packed numbers unpacked."""
    fill = attribute(item, "_FillValue")
    fill = fill[0] if isinstance(fill, list) else fill
    if array.dtype.kind in "iuf" and fill is not None:
        array = np.where(array == fill, np.nan, array)
    scale, offset = attribute(item, "scale_factor", 1), attribute(item, "add_offset", 0)
    return array * scale + offset if (scale, offset) != (1, 0) else array


def _read_netcdf3(path: Path) -> dict[str, Variable]:
    try:
        with netcdf_file(path, mmap=False) as file:
            return {name: _classic(held) for name, held in file.variables.items()}
    except (OSError, TypeError, ValueError, KeyError, IndexError) as error:
        raise InvalidArgument(f"{path}: damaged, cut short or not {WHAT} ({error})") from error


def _classic(variable: Any) -> Variable:
    """Text is an array of bytes there, with its length as the last axis."""
    array, dims = np.array(variable.data), tuple(variable.dimensions)
    if array.dtype.kind == "S":
        width = array.shape[-1]
        joined = np.ascontiguousarray(array).view(f"S{width}")[..., 0]
        array, dims = np.char.decode(joined, "utf-8", "replace"), dims[:-1]
    else:
        array = array.astype(array.dtype.newbyteorder("="))
    coordinates = getattr(variable, "coordinates", b"").decode().split()
    return dims, array, tuple(coordinates)


# Contents


def _without_time(held: Assembly, time_bin: int | None) -> Assembly:
    if "time_bin" not in held.dims:
        return held
    bins = held.data.shape[held.dims.index("time_bin")]
    if bins > 1 and time_bin is None:
        raise InvalidArgument(f"{held.path}: has {bins} time bins: say which as time_bin")
    if not 0 <= (chosen := time_bin or 0) < bins:
        raise InvalidArgument(f"time_bin must be from 0 to {bins - 1}, got {chosen}")
    return held.at("time_bin", chosen)


def _by_repetition(
    held: Assembly, shown: NDArray[np.str_], ids: Sequence[str]
) -> NDArray[np.float64]:
    """(stimuli, repetitions, neuroids), NaN where a stimulus was shown less often."""
    data = held.ordered("presentation", "neuroid")
    if data.dtype.kind not in "iuf":
        raise InvalidArgument(f"{held.path}: responses must be numbers, got {data.dtype}")
    if held.has("presentation", "repetition"):
        times, place = np.unique(held.along("presentation", "repetition"), return_inverse=True)
    else:
        times, place = np.zeros(1), np.zeros(len(shown), int)
    row = np.searchsorted(np.asarray(ids), shown)
    cells = row * len(times) + place
    if len(np.unique(cells)) < len(cells):
        raise InvalidArgument(
            f"{held.path}: a stimulus occurs more than once with the same repetition"
        )
    result = np.full((len(ids), len(times), data.shape[1]), np.nan)
    result[row, place] = data
    return result


def _objects(
    held: Assembly, shown: NDArray[np.str_], rows: list[dict[str, str]]
) -> tuple[str, ...] | None:
    """What is shown, from the assembly or else the stimulus set."""
    for name in OBJECTS:
        if held.has("presentation", name):
            first = np.unique(shown, return_index=True)[1]
            return tuple(held.along("presentation", name)[first].astype(str).tolist())
        if name in rows[0]:
            return tuple(row[name] for row in rows)
    return None


def _stem(assembly: str | Path) -> str:
    """Files are named after the assembly: assy_dicarlo_MajajHong2015_public.nc."""
    return Path(assembly).stem.removeprefix("assy_")


def _file(row: dict[str, str]) -> str:
    name = next((row[name] for name in FILES if row.get(name)), None)
    if name is None:
        raise InvalidArgument(f"a stimulus set must have one of the columns {', '.join(FILES)}")
    return name


def _degrees(rows: list[dict[str, str]]) -> float | None:
    found = {row.get("degrees", "") for row in rows} - {""}
    if len(found) > 1:
        raise InvalidArgument(f"stimuli must all be shown at one width, got {len(found)} of them")
    return float(found.pop()) if found else None
