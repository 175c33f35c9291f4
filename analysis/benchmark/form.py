"""Benchmarks: stimuli, and what brains or people did when they saw them.

A benchmark is one HDF5 file, or a folder that holds it as benchmark.h5 beside its images:

    attributes  schema = "neurosim.benchmark", schema_version = 1, name, citation, and degrees,
                the width of the stimuli in degrees of visual angle, where it is known
    stimulus_id (S,)           text, all different
    pixels      (S, H, W, C)   uint8, C = 1 or 3; or file (S,), text: images, as paths from the
                               folder of this file or within images.zip beside it
    object      (S,)           text, optional: what is shown, for splits balanced over objects
    measured/REGION/           a group for every region, which holds one of
        responses       (S, repetitions, neuroids)  NaN where a repetition is missing; with
        neuroid_id      (neuroids,)                 text
      or
        dissimilarities (subjects, S, S)            symmetric, zeros on the diagonal; with
        subject_id      (subjects,)                 text
      or
        stimulus, truth, distractor, choice (trials,) text, two-alternative choices; with
        fitting         (S,)                        bool: stimuli that classifiers learn the
                                                    `object` from, and may be tested on

Brain-Score's own files are read by `analysis.benchmark.assemblies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from analysis.arguments import as_names
from analysis.benchmark.behaviour import Trials
from analysis.benchmark.ceiling import average_repetitions, check_repetitions, internal_consistency
from analysis.benchmark.plain_hdf5 import attribute, contents, opened, subgroup, values
from analysis.representations.stimuli import PictureFiles, Pictures, Stimuli
from analysis.statistics import Array, Estimate, check_responses
from neurosim.errors import InvalidArgument, require, require_instance
from neurosim.files import replacing

SCHEMA, VERSION = "neurosim.benchmark", 1
FILE, ARCHIVE = "benchmark.h5", "images.zip"
WHAT = "a benchmark written by neurosim"
TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True, eq=False)
class Recording:
    """Responses of a region's neuroids: (stimuli, repetitions, neuroids)."""

    responses: Array
    neuroids: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "responses", np.asarray(self.responses))
        object.__setattr__(self, "neuroids", as_names(self.neuroids))
        shape = check_repetitions(self.responses).shape
        if len(self.neuroids) != shape[2]:
            got = f"{len(self.neuroids)} for {shape[2]}"
            raise InvalidArgument(f"neuroids must each have a name, got {got}")
        check_responses(self.mean)

    @property
    def stimuli(self) -> int:
        """Number of stimuli."""
        return len(self.responses)

    @cached_property
    def mean(self) -> Array:
        """(stimuli, neuroids), over repetitions."""
        return average_repetitions(np.asarray(self.responses, float))

    def ceiling(self, rows: NDArray[np.int64]) -> Estimate | None:
        """Internal consistency over some of the stimuli; None where nothing was repeated."""
        if self.responses.shape[1] < 2:
            return None
        return internal_consistency(self.responses[rows])


@dataclass(frozen=True, eq=False)
class Dissimilarities:
    """A region's dissimilarity matrix of every subject: (subjects, stimuli, stimuli)."""

    matrices: Array
    subjects: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrices", np.asarray(self.matrices))
        object.__setattr__(self, "subjects", as_names(self.subjects))
        shape = self.matrices.shape
        right = len(shape) == 3 and shape[1] == shape[2]
        require(right, "dissimilarities", f"shape {shape}", "(subjects, stimuli, stimuli)")
        if len(self.subjects) != shape[0]:
            got = f"{len(self.subjects)} for {shape[0]}"
            raise InvalidArgument(f"subjects must each have a name, got {got}")

    @property
    def stimuli(self) -> int:
        """Number of stimuli."""
        return self.matrices.shape[1]


@dataclass(frozen=True, eq=False)
class Choices:
    """Behaviour: trials, and the stimuli that a model's classifier learns from."""

    trials: Trials
    fitting: NDArray[np.bool_]

    def __post_init__(self) -> None:
        require_instance("trials", self.trials, Trials)
        object.__setattr__(self, "fitting", np.asarray(self.fitting, bool))

    @property
    def stimuli(self) -> int:
        """Number of stimuli."""
        return len(self.fitting)


Measured = Recording | Dissimilarities | Choices


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Stimuli and what was measured, by region."""

    name: str
    stimuli: Stimuli
    measured: Mapping[str, Measured]
    objects: tuple[str, ...] | None = None
    degrees: float | None = None
    citation: str = ""

    @property
    def count(self) -> int:
        """Number of stimuli."""
        return len(self.stimuli.ids)

    def __post_init__(self) -> None:
        require(self.measured, "measured", dict(self.measured), "one region or more")
        require(self.degrees is None or self.degrees > 0, "degrees", self.degrees, "> 0")
        sizes = {"object": len(self.objects) if self.objects is not None else self.count}
        sizes |= {region: measured.stimuli for region, measured in self.measured.items()}
        for what, size in sizes.items():
            if size != self.count:
                raise InvalidArgument(
                    f"{self.name}: stimuli and responses do not match: {self.count} stimuli, "
                    f"but {what} has {size}"
                )
        for region, measured in self.measured.items():
            if isinstance(measured, Choices) and self.objects is None:
                raise InvalidArgument(f"{self.name}: {region} needs objects to learn from")

    def write(self, path: str | Path) -> Path:
        """Write the benchmark in the form above; images in files stay where they are."""
        path = Path(path)
        if not isinstance(self.stimuli, Pictures | PictureFiles):
            raise InvalidArgument(f"stimuli of kind {type(self.stimuli).__name__} have no file")
        with replacing(path) as new, h5py.File(new, "w") as file:
            self._write(file)
        return path

    def _write(self, file: h5py.File) -> None:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, name=self.name)
        file.attrs["citation"] = self.citation
        if self.degrees is not None:
            file.attrs["degrees"] = float(self.degrees)
        _write_text(file, "stimulus_id", self.stimuli.ids)
        if isinstance(self.stimuli, Pictures):
            file.create_dataset("pixels", data=self.stimuli.pixels, compression="gzip")
        elif isinstance(self.stimuli, PictureFiles):
            _write_text(file, "file", self.stimuli.files)
        if self.objects is not None:
            _write_text(file, "object", self.objects)
        regions = file.create_group("measured", track_order=True)
        for region, measured in self.measured.items():
            _write_measured(regions.create_group(region), measured)


def read_benchmark(path: str | Path) -> Benchmark:
    """Read a file, or a folder with benchmark.h5 in it."""
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    with opened(path, WHAT) as file:
        if (schema := attribute(file, "schema")) != SCHEMA:
            raise InvalidArgument(f"{path}: not {WHAT}: schema is {schema!r}, not {SCHEMA!r}")
        if (version := attribute(file, "schema_version")) != VERSION:
            raise InvalidArgument(
                f"{path}: has schema version {version!r}, but this neurosim reads {VERSION}"
            )
        regions = subgroup(file, "measured")
        return Benchmark(
            name=attribute(file, "name", path.stem),
            stimuli=_read_stimuli(file, path),
            measured={
                region: _read_measured(subgroup(regions, region), path)
                for region in contents(regions)
            },
            objects=_texts(file, "object") if "object" in file else None,
            degrees=attribute(file, "degrees"),
            citation=attribute(file, "citation", ""),
        )


def _read_stimuli(file: h5py.File, path: Path) -> Stimuli:
    ids = _texts(file, "stimulus_id")
    if "pixels" in file:
        return Pictures(ids, values(file, "pixels"))
    archive = path.with_name(ARCHIVE)
    place = archive if archive.exists() else path.parent
    return PictureFiles(ids, place, inner_paths(path, _texts(file, "file")))


def inner_paths(path: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    """The same paths, refused if one leads out of its folder."""
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InvalidArgument(f"{path}: refused, image {name!r} lies outside its folder")
    return files


def _read_measured(group: h5py.Group, path: Path) -> Measured:
    if "responses" in group:
        responses = values(group, "responses")
        return Recording(responses, _texts(group, "neuroid_id"))
    if "dissimilarities" in group:
        return Dissimilarities(values(group, "dissimilarities"), _texts(group, "subject_id"))
    if "choice" in group:
        columns = ("stimulus", "truth", "distractor", "choice")
        trials = Trials(*(values(group, name) for name in columns))
        return Choices(trials, values(group, "fitting").astype(bool))
    raise InvalidArgument(
        f"{path}: {group.name} must hold responses, dissimilarities or choices, "
        f"got {', '.join(group) or 'nothing'}"
    )


def _write_measured(group: h5py.Group, measured: Measured) -> None:
    if isinstance(measured, Recording):
        data = np.asarray(measured.responses, np.float32)
        group.create_dataset("responses", data=data, compression="gzip")
        _write_text(group, "neuroid_id", measured.neuroids)
    elif isinstance(measured, Dissimilarities):
        data = np.asarray(measured.matrices, np.float32)
        group.create_dataset("dissimilarities", data=data, compression="gzip")
        _write_text(group, "subject_id", measured.subjects)
    else:
        for name in ("stimulus", "truth", "distractor", "choice"):
            _write_text(group, name, getattr(measured.trials, name))
        group.create_dataset("fitting", data=np.asarray(measured.fitting, bool))


def _write_text(group: h5py.Group, name: str, texts: object) -> None:
    group.create_dataset(name, data=np.asarray(texts, dtype=object), dtype=TEXT)


def _texts(group: h5py.Group, name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in values(group, name))
