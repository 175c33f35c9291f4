"""Sums of small matrix products that stay in a CPU's registers, and transposes of blocks.

A tile is a few rows of a result by a few vectors of neighbouring columns. All of its sum is made
in registers: every step loads each vector of B once for all rows, and each element of A once for
all columns. From loops, the compiler makes tiles that live in memory, several times slower. So
the instructions of a tile are written down here, for the width of the processor's vectors, and
everything around tiles is loops.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numpy.typing import NDArray

from neurosim.compiled.jit import compiled

# What numba compiles for, and keeps in its cache by: more than the machine's where that is told.
_TARGET: Any = cpu_target.target_context
_FEATURES = _TARGET.codegen().magic_tuple()[2].split(",")
VECTOR = 64 if "+avx512f" in _FEATURES else 32 if "+avx" in _FEATURES else 16  # bytes
TILE = 16 if VECTOR == 64 else 8  # vectors of a tile: about half of the registers
DEPTH = 128  # steps of a sum made at a time: so many rows of B, four vectors wide, are 32 KiB

Values = NDArray[np.floating]
Places = NDArray[np.int64]


class Left(NamedTuple):
    """Matrices A_t in a flat array: a_t[r, k] is element first + starts[t] + r row + k step."""

    values: Values
    starts: Places
    row: int
    step: int


class Right(NamedTuple):
    """Matrices B_t in a flat array: b_t[k, c] is element first + starts[t] + k step + c."""

    values: Values
    starts: Places
    step: int


class Out(NamedTuple):
    """A matrix in a flat array: out[r, c] is element first + r row + c."""

    values: Values
    row: int


# What follows writes LLVM's instructions; `b` is numba's builder of them.

_int, _lane = ir.IntType(64), ir.IntType(32)


def _number(value: int) -> ir.Constant:
    return ir.Constant(_int, value)


def _fields(b: Any, kind: Any, value: Any) -> dict[str, Any]:
    """The fields of a named tuple."""
    return {name: b.extract_value(value, i) for i, name in enumerate(kind.fields)}


def _element(context: Any, b: Any, kind: Any, array: Any, *offsets: Any) -> Any:
    """The address of an element of a flat array."""
    address = cgutils.create_struct_proxy(kind)(context, b, array).data
    for offset in offsets:
        address = b.gep(address, [offset])
    return address


class _Vectors:
    """Vectors of one type: how they are loaded, stored and computed with."""

    def __init__(self, context: Any, b: Any, dtype: types.Float) -> None:
        self.b, self.bytes = b, dtype.bitwidth // 8
        self.lanes = VECTOR // self.bytes
        self.type = ir.VectorType(context.get_value_type(dtype), self.lanes)
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)
        self.undefined = ir.Constant(self.type, ir.Undefined)
        kind = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{dtype.bitwidth}"
        self._multiply_add = cgutils.get_or_insert_function(b.module, kind, name)

    def load(self, address: Any) -> Any:
        value = self.b.load(self.b.bitcast(address, self.type.as_pointer()))
        value.align = self.bytes  # a row may begin at any element
        return value

    def store(self, value: Any, address: Any) -> None:
        address = self.b.bitcast(address, self.type.as_pointer())
        self.b.store(value, address, align=self.bytes)

    def prefetch(self, address: Any) -> None:
        """Begin to fetch what will be stored to."""
        pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        function = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        to_write, keep, data = (ir.Constant(flag, value) for value in (1, 3, 1))
        self.b.call(function, [self.b.bitcast(address, pointer), to_write, keep, data])

    def shuffle(self, x: Any, y: Any, places: list[int]) -> Any:
        """Elements of x, numbered from 0, and of y, numbered on."""
        kind = ir.VectorType(_lane, self.lanes)
        return self.b.shuffle_vector(x, y, ir.Constant(kind, places))

    def everywhere(self, scalar: Any) -> Any:
        first = self.b.insert_element(self.undefined, scalar, ir.Constant(_lane, 0))
        return self.shuffle(first, self.undefined, [0] * self.lanes)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        return self.b.call(self._multiply_add, [x, y, z])


def _tile(rows: int, width: int) -> Callable[..., None]:
    """`sum_of_products` for `rows` rows and `width` vectors of columns from some place on."""

    @intrinsic
    def tile(typing, out, left, right, firsts, start, stop, count, add, row, column):
        return types.void(out, left, right, firsts, start, stop, count, add, row, column), generate

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        out, left, right = map(_fields, [b] * 3, signature.args, values)
        firsts, start, stop, count, add, row, column = values[3:]
        kind, table = signature.args[0].types[0], signature.args[1].types[1]
        vectors = _Vectors(context, b, kind.dtype)
        places = list(product(range(rows), range(width)))

        def matrix(operand: dict[str, Any], first: int, term: Any) -> Any:
            """Where a term's matrix starts."""
            place = b.load(_element(context, b, table, operand["starts"], term))
            return _element(
                context, b, kind, operand["values"], b.extract_value(firsts, first), place
            )

        below = [b.mul(b.add(row, _number(r)), left["row"]) for r in range(rows)]
        beside = [b.mul(b.add(column, _number(v)), _number(vectors.lanes)) for v in range(width)]
        first = _element(context, b, kind, out["values"], b.extract_value(firsts, 0))
        target = {
            (r, v): b.gep(first, [b.add(b.mul(b.add(row, _number(r)), out["row"]), beside[v])])
            for r, v in places
        }
        for place in places:  # the sum takes long enough to fetch where it will be stored
            vectors.prefetch(target[place])
        total = {place: cgutils.alloca_once_value(b, vectors.zero) for place in places}
        with b.if_then(add):
            for place in places:
                b.store(vectors.load(target[place]), total[place])
        with cgutils.for_range(b, stop, start) as term:
            first_a, first_b = matrix(left, 1, term.index), matrix(right, 2, term.index)
            with cgutils.for_range(b, count) as step:
                at_a = b.gep(first_a, [b.mul(step.index, left["step"])])
                at_b = b.gep(first_b, [b.mul(step.index, right["step"])])
                columns = [vectors.load(b.gep(at_b, [offset])) for offset in beside]
                for r, offset in enumerate(below):
                    element = vectors.everywhere(b.load(b.gep(at_a, [offset])))
                    for v in range(width):
                        added = vectors.multiply_add(element, columns[v], b.load(total[r, v]))
                        b.store(added, total[r, v])
        for place in places:
            vectors.store(b.load(total[place]), target[place])
        return context.get_dummy_value()

    return tile


def _move() -> Callable[..., None]:
    """Copy one vector."""

    @intrinsic
    def move(typing, values, first, out, out_first):
        return types.void(values, first, out, out_first), generate

    def generate(context: Any, b: Any, signature: Any, given: Any) -> Any:
        values, first, out, out_first = given
        vectors = _Vectors(context, b, signature.args[0].dtype)
        value = vectors.load(_element(context, b, signature.args[0], values, first))
        vectors.store(value, _element(context, b, signature.args[2], out, out_first))
        return context.get_dummy_value()

    return move


def _block() -> Callable[..., None]:
    """As many rows, each a vector, as a vector is long become columns."""

    @intrinsic
    def move(typing, values, first, row, out, out_first, out_row):
        return types.void(values, first, row, out, out_first, out_row), generate

    def generate(context: Any, b: Any, signature: Any, given: Any) -> Any:
        values, first, row, out, out_first, out_row = given
        source, target = signature.args[0], signature.args[3]
        vectors = _Vectors(context, b, source.dtype)
        block = [
            vectors.load(_element(context, b, source, values, first, b.mul(row, _number(i))))
            for i in range(vectors.lanes)
        ]
        _transpose_vectors(vectors, block)
        for i, value in enumerate(block):
            place = _element(context, b, target, out, out_first, b.mul(out_row, _number(i)))
            vectors.store(value, place)
        return context.get_dummy_value()

    return move


def _transpose_vectors(vectors: _Vectors, block: list[Any]) -> None:
    """In place: squares of 2 x 2 parts swap those off the diagonal; then so does every part."""
    size, apart = vectors.lanes, vectors.lanes // 2
    while apart:
        upper = [j + size - apart if j & apart else j for j in range(size)]
        lower = [j + size if j & apart else j + apart for j in range(size)]
        for i in (i for i in range(size) if not i & apart):
            x, y = block[i], block[i + apart]
            block[i], block[i + apart] = vectors.shuffle(x, y, upper), vectors.shuffle(x, y, lower)
        apart //= 2


_copy_vector, _transpose_block = _move(), _block()

# Tiles for columns of 4, 2 or 1 vectors: as many rows as fit, and fewer for what is left.
_HEIGHTS = {width: TILE // width for width in (4, 2, 1)}
_tall_4, _tall_2, _tall_1 = (_tile(height, width) for width, height in _HEIGHTS.items())
_flat_4, _flat_2, _flat_1 = (_tile(1, width) for width in _HEIGHTS)
_four_1 = _tile(4, 1)


@compiled
def sum_of_products(
    out: Out, a: Left, b: Right, firsts: tuple[int, int, int],
    terms: int, count: int, rows: int, vectors: int, add: bool,
) -> None:  # fmt: skip
    """out[r, c] = sum_{t < terms} sum_{k < count} a_t[r, k] b_t[k, c], for r < rows.

    With `add`, that is added to what is there. `firsts` is where out, A and B start; columns c
    fill so many vectors. Of long sums a part is made at a time, for all rows, so that its
    b_t[k, c] stay in the first-level cache.
    """
    first, first_a, first_b = firsts
    parts = max(1, -(-terms * count // DEPTH))
    together = max(1, -(-terms // parts))
    for start in range(0, max(1, terms), together):
        stop = min(start + together, terms)
        for k in range(0, max(1, count), DEPTH):
            _tiles(
                out, a, b, (first, first_a + k * a.step, first_b + k * b.step),
                start, stop, min(count - k, DEPTH), add or start + k > 0, rows, vectors,
            )  # fmt: skip


@compiled
def _tiles(
    out: Out, a: Left, b: Right, firsts: tuple[int, int, int],
    start: int, stop: int, count: int, add: bool, rows: int, vectors: int,
) -> None:  # fmt: skip
    width = 4 if vectors % 4 == 0 else 2 if vectors % 2 == 0 else 1
    tall, row = TILE // width, 0
    while row < rows:
        left = rows - row
        height = tall if left >= tall else 4 if width == 1 and left >= 4 else 1
        for column in range(0, vectors, width):
            if width == 4:
                if height == tall:
                    _tall_4(out, a, b, firsts, start, stop, count, add, row, column)
                else:
                    _flat_4(out, a, b, firsts, start, stop, count, add, row, column)
            elif width == 2:
                if height == tall:
                    _tall_2(out, a, b, firsts, start, stop, count, add, row, column)
                else:
                    _flat_2(out, a, b, firsts, start, stop, count, add, row, column)
            elif height == tall:
                _tall_1(out, a, b, firsts, start, stop, count, add, row, column)
            elif height == 4:
                _four_1(out, a, b, firsts, start, stop, count, add, row, column)
            else:
                _flat_1(out, a, b, firsts, start, stop, count, add, row, column)
        row += height


@compiled
def transpose(
    values: Values, first: int, row: int, rows: int, columns: int,
    out: Values, out_first: int, out_row: int,
) -> None:  # fmt: skip
    """out[c, r] = values[r, c] of matrices in flat arrays, for r < rows, c < columns."""
    lanes = VECTOR // values.itemsize
    whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes
    for r in range(0, whole_rows, lanes):
        for c in range(0, whole_columns, lanes):
            _transpose_block(
                values, first + r * row + c, row, out, out_first + c * out_row + r, out_row
            )
    for r in range(rows):
        for c in range(whole_columns if r < whole_rows else 0, columns):
            out[out_first + c * out_row + r] = values[first + r * row + c]


@compiled
def copy(
    values: Values, first: int, row: int, rows: int, columns: int,
    out: Values, out_first: int, out_row: int,
) -> None:  # fmt: skip
    """out[r, c] = values[r, c] of matrices in flat arrays, for r < rows, c < columns."""
    lanes = VECTOR // values.itemsize
    whole = columns // lanes * lanes
    for r in range(rows):
        source, target = first + r * row, out_first + r * out_row
        for c in range(0, whole, lanes):
            _copy_vector(values, source + c, out, target + c)
        for c in range(whole, columns):
            out[target + c] = values[source + c]
