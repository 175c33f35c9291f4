"""The filter banks that a low-rank layer combines: their structure, and all in one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import NamedTuple

from torch import Tensor

from neurosim.errors import require
from neurosim.nn.local import Size
from neurosim.nn.ops.local import Geometry


class Bank(NamedTuple):
    """The structure of one filter bank, in a layer that mixes several."""

    kernel_size: Size
    dilation: Size = 1


class Aligned(NamedTuple):
    """All banks in one kernel."""

    filters: Tensor  # (K, O, C, kh, kw)
    dilation: tuple[int, ...]
    before: tuple[int, ...]  # padding before the image


def structures(
    kernel_size: Size | Sequence[Bank], dilation: Size, rank: int, padding: Size | str
) -> list[Bank]:
    """The structure of every bank, with sizes written out."""
    whole = isinstance(rank, Integral) and not isinstance(rank, bool) and rank >= 1
    require(whole, "rank", rank, "a whole number >= 1")
    if not (isinstance(kernel_size, Sequence) and all(isinstance(k, Bank) for k in kernel_size)):
        return [Bank(_both(kernel_size), _both(dilation))] * rank  # type: ignore[arg-type]
    banks = [Bank(_both(b.kernel_size), _both(b.dilation)) for b in kernel_size]  # type: ignore[union-attr]
    require(len(banks) == rank, "rank", rank, f"{len(banks)}, the number of banks in kernel_size")
    require(dilation in (1, (1, 1)), "dilation", dilation, "1 where every bank has its own")
    if len(set(banks)) > 1:
        require(padding == "same", "padding", padding, '"same" for banks of mixed structure')
    return banks


def _both(size: Size) -> Size:
    if isinstance(size, Sequence):
        return tuple(size)
    return (size, size) if isinstance(size, int) else size


def aligned(
    bases: Iterable[Tensor], members: Sequence[Sequence[int]], geometries: Sequence[Geometry]
) -> Aligned:
    """Banks (members, O, C, kh, kw) of every structure, as those of one.

    Banks of mixed structure are put, with zeros between and around, into the smallest kernel that
    holds all of them.
    """
    kinds, first = list(bases), geometries[0]
    if len(kinds) == 1:
        return Aligned(kinds[0], first.dilation, first.before)
    before = tuple(max(g.before[axis] for g in geometries) for axis in (0, 1))
    after = tuple(max(g.after[axis] for g in geometries) for axis in (0, 1))
    kernel = (1 + b + a for b, a in zip(before, after, strict=True))
    filters = kinds[0].new_zeros(sum(map(len, members)), *kinds[0].shape[1:3], *kernel)
    for which, basis, g in zip(members, kinds, geometries, strict=True):
        places = zip(before, g.before, g.kernel_size, g.dilation, strict=True)
        rows, columns = (slice(b - o, b - o + d * (k - 1) + 1, d) for b, o, k, d in places)
        filters[which, :, :, rows, columns] = basis
    return Aligned(filters, (1, 1), before)
