"""Products and copies in registers, against numpy."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neurosim.compiled.tiles import VECTOR, Left, Out, Right, copy, sum_of_products, transpose

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def drawn(seed: int, size: int, dtype: type) -> NDArray[np.floating]:
    return np.random.default_rng(seed).normal(size=size).astype(dtype)


@each_dtype
@settings(max_examples=60, deadline=None)
@given(
    terms=st.integers(0, 12), count=st.integers(1, 300), rows=st.integers(1, 37),
    vectors=st.integers(1, 9), gap=st.integers(0, 5), seed=st.integers(0, 99), add=st.booleans(),
)  # fmt: skip
def test_a_sum_of_products_of_matrices_that_lie_anywhere(
    dtype: type, terms: int, count: int, rows: int, vectors: int, gap: int, seed: int, add: bool
) -> None:
    """A transposed and not, terms in any order, everything with gaps; nothing else is written."""
    columns = vectors * VECTOR // np.dtype(dtype).itemsize
    order = np.random.default_rng(seed).permutation(terms)
    row, step = (count + gap, 1) if seed % 2 else (1, rows + gap)
    a_size, b_size = rows * count + gap * (rows + count), count * (columns + gap)
    a, b = drawn(seed, gap + terms * a_size, dtype), drawn(seed + 1, gap + terms * b_size, dtype)
    out = np.full(gap + rows * (columns + gap), np.nan, dtype)
    wanted = np.zeros((rows, columns))
    if add:
        wanted[:] = drawn(seed + 2, wanted.size, dtype).reshape(wanted.shape)
        out[gap:].reshape(rows, -1)[:, :columns] = wanted

    sum_of_products(
        Out(out, columns + gap),
        Left(a, order * a_size, row, step),
        Right(b, order * b_size, columns + gap),
        (gap, gap, gap), terms, count, rows, vectors, add,
    )  # fmt: skip

    largest = abs(wanted)
    for t in order:
        r, k, c = np.arange(rows)[:, None], np.arange(count), np.arange(columns)
        a_t = a[gap + t * a_size + r * row + k * step].astype(float)
        b_t = b[gap + t * b_size + k[:, None] * (columns + gap) + c].astype(float)
        wanted += a_t @ b_t
        largest += abs(a_t) @ abs(b_t)
    made = out[gap:].reshape(rows, columns + gap)
    rounding = (terms * count + 1) * np.finfo(dtype).eps * largest  # of a sum in any order
    assert (abs(made[:, :columns] - wanted) <= rounding).all()
    assert np.isnan(out[:gap]).all()
    assert np.isnan(made[:, columns:]).all()


@each_dtype
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 50), columns=st.integers(1, 50), gap=st.integers(0, 5),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_copies_and_transposes_move_every_element_and_touch_nothing_else(
    dtype: type, rows: int, columns: int, gap: int, seed: int
) -> None:
    values = drawn(seed, gap + rows * (columns + gap), dtype)
    matrix = values[gap:].reshape(rows, columns + gap)[:, :columns]
    for function, wanted in ((copy, matrix), (transpose, matrix.T)):
        width = wanted.shape[1] + gap
        out = np.full(gap + wanted.shape[0] * width, np.nan, dtype)
        function(values, gap, columns + gap, rows, columns, out, gap, width)
        made = out[gap:].reshape(-1, width)
        np.testing.assert_array_equal(made[:, : wanted.shape[1]], wanted)
        assert np.isnan(out[:gap]).all()
        assert np.isnan(made[:, wanted.shape[1] :]).all()


def test_vectors_are_those_that_numba_compiles_for() -> None:
    """Told to compile for less than the machine has, it must find the vectors of that."""
    code = "from neurosim.compiled import tiles; print(tiles.VECTOR, tiles.TILE)"
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["16", "8"], done.stderr
