"""Tables of which input meets which output, against stepping through every tap."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim.nn.ops.local import Geometry
from neurosim.nn.ops.local.meetings import Meetings, by_input, by_output, unmet


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    axes = draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, dilation, before, after = each(1, 3), each(1, 3), each(0, 3), each(0, 3)
    least = (
        max(1, d * (k - 1) + 1 - b - a)
        for k, d, b, a in zip(kernel, dilation, before, after, strict=True)
    )
    size = tuple(low + draw(st.integers(0, 4)) for low in least)
    return Geometry(size, kernel, each(1, 3), dilation, before, after)


def stepped(g: Geometry) -> set[tuple[int, int, int]]:
    """(position, element of the input, filter) of every tap that meets an input."""
    found = set()
    taps = list(itertools.product(*map(range, g.kernel_size)))
    for position, place in enumerate(itertools.product(*map(range, g.output_size))):
        for tap, offset in enumerate(taps):
            at = [
                p * s + t * d - b
                for p, s, t, d, b in zip(place, g.stride, offset, g.dilation, g.before, strict=True)
            ]
            if all(0 <= a < size for a, size in zip(at, g.input_size, strict=True)):
                element = int(np.ravel_multi_index(at, g.input_size))
                found.add((position, element, tap * g.positions + position))
    return found


def listed(m: Meetings) -> list[tuple[int, int, int]]:
    targets = np.repeat(np.arange(len(m.first) - 1), np.diff(m.first))
    return list(zip(targets.tolist(), m.sources.tolist(), m.filters.tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(geometry=geometries())
def test_meetings_are_those_of_stepping_over_the_input(geometry: Geometry) -> None:
    wanted = stepped(geometry)
    seen, seen_by = listed(by_output(geometry)), listed(by_input(geometry))
    assert len(seen) == len(seen_by) == len(wanted)
    assert set(seen) == wanted
    assert {(position, element, f) for element, position, f in seen_by} == wanted
    every = set(range(geometry.positions * int(np.prod(geometry.kernel_size))))
    assert set(unmet(geometry).tolist()) == every - {f for *_, f in wanted}


@settings(max_examples=200, deadline=None)
@given(geometry=geometries())
def test_windows_of_rows_hold_every_source_and_never_go_back(geometry: Geometry) -> None:
    for m in (by_output(geometry), by_input(geometry)):
        for target, source, _ in listed(m):
            row = target // m.row
            assert m.low[row] <= source // m.source_row < m.high[row]
        assert (np.diff(m.low) >= 0).all()
        assert (np.diff(m.high) >= 0).all()
