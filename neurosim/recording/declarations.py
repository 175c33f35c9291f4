"""What a run file will hold: its axes, the datasets along them, constants and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from neurosim.errors import InvalidArgument, RunFileError, require
from neurosim.recording.output import OutputFile
from neurosim.recording.schema import RESERVED, TEXT, data_type
from neurosim.recording.values import fit, number_type, plain_array

_ROW_CHUNK_BYTES = 2**16
_ROW_CHUNK_ROWS = 1024


@dataclass
class Field:
    """A declared dataset.

    Rows are appended to it along the scale `axis`, which for such a scale is itself; what is
    `fixed` had its values when it was declared.
    """

    data: h5py.Dataset
    dims: tuple[str, ...]
    axis: str | None = None
    fixed: bool = False


class Declarations:
    """The part of `RunWriter` that comes before its start.

    What is declared is made in the file at once, with all the room it will need, because
    afterwards the structure stands.
    """

    def __init__(self, file: OutputFile):
        self.path = file.path
        self._file = file
        self._fields: dict[str, Field] = {}

    def scale(
        self,
        name: str,
        values: ArrayLike | None = None,
        *,
        dtype: DTypeLike | None = None,
        units: str = "",
        description: str = "",
    ) -> None:
        """Declare an axis: its coordinates, or the `dtype` of those that `append` will add."""
        self._check_new(name)
        if values is None:
            kind = number_type("dtype", dtype, "iuf")
            data = self._file.create(name, (0,), kind, maxshape=(None,), chunks=(_ROW_CHUNK_ROWS,))
            field = Field(data, (name,), axis=name)
        else:
            array = plain_array(name, values)
            require(array.ndim == 1, name, array.shape, "one-dimensional, as an axis is")
            if dtype is not None:
                array = fit(name, array, array.shape, number_type("dtype", dtype, "iuf"))
            field = Field(self._file.store(name, array), (name,), fixed=True)
        field.data.make_scale(name.rpartition("/")[2])
        self._add(name, field, units, description)

    def dataset(
        self,
        name: str,
        dims: Sequence[str],
        dtype: DTypeLike = "f8",
        *,
        units: str = "",
        description: str = "",
        chunks: tuple[int, ...] | None = None,
        compression: str | None = None,
    ) -> None:
        """Declare what the run will record along axes that are declared already.

        It has its full size at once, filled with NaN or 0. If its first axis is an appendable
        one, it grows with that axis instead, by `append`.
        """
        self._check_new(name)
        kind = number_type("dtype", dtype, "biufc")
        axis, shape = self._shape(name, dims)
        if chunks is not None and len(chunks) != len(shape):
            raise InvalidArgument(f"chunks of {name!r} must fit its axes {dims}, got {chunks}")
        options: dict[str, Any] = {
            "fillvalue": kind.type(np.nan) if kind.kind in "fc" else None,
            "chunks": chunks,
            "compression": compression,
        }
        if axis is not None:
            row = max(1, kind.itemsize * int(np.prod(shape[1:])))
            # A compressed chunk that is written again takes new room in the file each time.
            rows = 1 if compression else max(1, min(_ROW_CHUNK_ROWS, _ROW_CHUNK_BYTES // row))
            options["chunks"] = chunks or (rows, *(max(1, size) for size in shape[1:]))
            options["maxshape"] = (None, *shape[1:])
        data = self._file.create(name, shape, kind, **options)
        self._add(name, Field(data, tuple(dims), axis), units, description)

    def constant(
        self,
        name: str,
        values: ArrayLike,
        dims: Sequence[str] = (),
        *,
        units: str = "",
        description: str = "",
    ) -> None:
        """Record numbers or text that are known before the start."""
        self._check_new(name)
        axis, shape = self._shape(name, dims)
        array = plain_array(name, values)
        if axis is not None or array.shape != shape:
            raise InvalidArgument(
                f"{name!r} must have the shape {shape} of its axes {tuple(dims)}, none of them "
                f"appendable, got {array.shape}"
            )
        field = Field(self._file.store(name, array), tuple(dims), fixed=True)
        self._add(name, field, units, description)

    def attribute(self, name: str, value: str | int | float | bool | ArrayLike) -> None:
        """Record a note on the whole run, such as a title."""
        self._check_declaring(name)
        attributes = self._file.h5.attrs
        if name in attributes:
            raise RunFileError(
                f"{self.path}: attribute {name!r} is there already; use another name"
            )
        array = plain_array(name, value)
        attributes.create(name, array, dtype=TEXT if array.dtype.kind == "O" else None)

    def _layout(self) -> dict[str, tuple]:
        """What all segments of a run have in common: all but the number of rows."""
        return {
            name: (f.dims, data_type(f.data), f.data.shape[f.axis is not None :])
            for name, f in self._fields.items()
        }

    def _check_declaring(self, name: str) -> None:
        if self._file.closed:
            raise RunFileError(f"{self.path}: the writer is closed; open a new one")
        if self._file.published:
            raise RunFileError(
                f"{self.path}: {name!r} cannot be declared after start(), because a file that is "
                "read while it is written keeps its structure; declare everything before"
            )

    def _check_new(self, name: str) -> None:
        self._check_declaring(name)
        parts = name.split("/")
        plain = all(part.strip(".") and "\0" not in part for part in parts)
        require(plain, "name of a dataset", name, "words joined by '/', such as 'settings/gamma'")
        if name in RESERVED:
            raise RunFileError(f"{self.path}: the name {name!r} is reserved; use another")
        taken = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if name in self._file.h5 or any(part in self._fields for part in taken):
            raise RunFileError(f"{self.path}: the name {name!r} is taken already; use another")

    def _shape(self, name: str, dims: Sequence[str]) -> tuple[str | None, tuple[int, ...]]:
        """Appendable first axis, if any, and the shape at the start."""
        if isinstance(dims, str) or len(set(dims)) < len(dims):
            raise InvalidArgument(f"dims of {name!r} must be different scales, got {dims!r}")
        for position, dim in enumerate(dims):
            if dim not in self._fields or self._fields[dim].dims != (dim,):
                raise RunFileError(
                    f"{self.path}: dimension {dim!r} of {name!r} is not declared; "
                    "declare it with scale() first"
                )
            group = dim.rpartition("/")[0]
            if group and not name.startswith(group + "/"):
                raise RunFileError(
                    f"{self.path}: {name!r} must lie in the group {group!r} of its dimension "
                    f"{dim!r}, or the dimension above it; else labels are lost on other readers"
                )
            if self._fields[dim].axis and position:
                raise RunFileError(
                    f"{self.path}: the appendable dimension {dim!r} must come first in {name!r}, "
                    f"got {tuple(dims)}"
                )
        scales = [self._fields[dim] for dim in dims]
        return scales[0].axis if scales else None, tuple(len(scale.data) for scale in scales)

    def _add(self, name: str, field: Field, units: str, description: str) -> None:
        if field.dims != (name,):
            for position, dim in enumerate(field.dims):
                field.data.dims[position].attach_scale(self._fields[dim].data)
        field.data.attrs["units"] = units
        field.data.attrs["long_name"] = description
        self._fields[name] = field
