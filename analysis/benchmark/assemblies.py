"""Brain-Score's public data as they are published: NetCDF assemblies and CSV stimulus sets.

An assembly is one array whose axes carry several coordinates each: presentations with the
`stimulus_id` (once `image_id`), `repetition` and what was shown, neuroids with `neuroid_id`,
`region` and where they are, and time bins (`netcdf` reads the files). The stimulus set is a CSV
file with a row per stimulus, beside a folder or zip archive of images.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.benchmark.behaviour import Trials
from analysis.benchmark.form import Benchmark, Choices, Recording, inner_paths
from analysis.benchmark.netcdf import Assembly, read_assembly
from analysis.representations.stimuli import PictureFiles
from neurosim.errors import InvalidArgument

OBJECTS = ("object_name", "texture_type")
"""What Brain-Score's benchmarks balance splits over: MajajHong2015 and FreemanZiemba2013."""

NAMES = ("stimulus_id", "image_id")
FILES = ("filename", "image_file_name", "stimulus_path_within_store", "image_path_within_store")
LABELS = ("image_label", "sample_obj", "image_sample_obj", "object_name")


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
