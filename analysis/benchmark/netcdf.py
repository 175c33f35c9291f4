"""Assemblies of Brain-Score as they are stored: one array whose axes carry several coordinates.

NetCDF 4 is HDF5 with dimension scales, so that h5py reads it; NetCDF 3 is read by scipy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import netcdf_file

from analysis.benchmark.plain_hdf5 import attribute, contents, member, opened, values
from neurosim.errors import InvalidArgument

WHAT = "a NetCDF assembly of Brain-Score"
Variable = tuple[tuple[str, ...], NDArray[Any], tuple[str, ...]]  # axes, values, coordinates


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
