"""The measures of equality against plain formulas in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from brute_force import CASES, Neurons, layer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosim.nn import LocallyConnected1d, LocallyConnected2d
from neurosim.nn.local import LocallyConnected
from neurosim.nn.masked import mask_of, set_pattern, sever_weights
from neurosim.nn.ops.local import to_storage
from neurosim.sleep import (
    LayerStatistics,
    frame_of,
    layer_statistics,
    share,
    statistics,
    taps_cpu,
)
from neurosim.sleep.instant import share_means
from neurosim.sleep.statistics import measure


def measures(columns: list[np.ndarray]) -> list[float]:
    """SNR, its inverse and |mean| / std of components, each the weights of some neurons."""
    ratios: list[list[float]] = [[], [], []]
    for column in columns:
        mean, variance = (column.mean(), column.var()) if len(column) else (0.0, 0.0)
        if mean == 0 and variance == 0:
            values = [0.0, 0.0, 0.0]
        else:
            snr = mean**2 / variance if variance else math.inf
            values = [snr, variance / mean**2 if mean else math.inf, math.sqrt(snr)]
        for found, value in zip(ratios, values, strict=True):
            found.append(value)
    return [float(np.mean(found)) for found in ratios]


def expected(layer: LocallyConnected) -> LayerStatistics:
    """The definitions, component by component."""
    interior, everyone = Neurons.of(layer, "exclude"), Neurons.of(layer)
    mask = mask_of(layer)
    kept = torch.ones_like(layer.weight) if mask is None else mask.expand_as(layer.weight)
    weight = layer.weight.detach().double().numpy()
    present = kept.numpy().astype(bool)

    def columns(positions: list[tuple[int, ...]]) -> list[np.ndarray]:
        chosen = [[p[axis] for p in positions] for axis in range(layer.axes)]
        values, has = (array[tuple(chosen)] for array in (weight, present))
        shape = (len(positions), -1)
        return [v[h] for v, h in zip(values.reshape(shape).T, has.reshape(shape).T, strict=True)]

    grids = [columns([everyone.positions[i] for i in group]) for group in everyone.groups]
    flat = [column for grid in grids for column in grid]
    squares = sum(((c - c.mean()) ** 2).sum() for c in flat if len(c))
    return LayerStatistics(
        *(measures(columns(interior.positions)) if interior.positions else [math.nan] * 3),
        *measures(flat),
        spread=math.sqrt(squares / present.sum()),
        norm=math.sqrt((weight**2 * present).sum()),
    )


def assert_same(found: LayerStatistics, wanted: LayerStatistics, rel: float = 1e-9) -> None:
    for name in LayerStatistics.names():
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=rel, nan_ok=True), (
            name
        )


@pytest.mark.parametrize("case", CASES)
def test_equal_plain_formulas(case: str) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    assert_same(layer_statistics(layer), expected(layer))


@settings(max_examples=25, deadline=None)
@given(case=st.sampled_from(sorted(CASES)), absent=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_absent_connections_do_not_count(case: str, absent: float, seed: int) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, seed=seed, **arguments)
    sever_weights(layer, absent, generator=torch.Generator().manual_seed(seed))
    assert_same(layer_statistics(layer), expected(layer))


def test_components_that_are_zero_or_lonely() -> None:
    """No signal and no noise counts as 0; one neuron has no variance; a mean of 0 has no SNR."""
    layer = LocallyConnected1d(3, 1, 1, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0, 1, 1.0], [0, -1, 3]])[:, None, :, None])
    found = layer_statistics(layer)
    assert found.snr == pytest.approx((0 + 0 + 4 / 1) / 3)
    assert found.inverse_snr == math.inf
    assert found.mean_to_std == pytest.approx((0 + 0 + 2) / 3)
    lonely = layer_of((4, 3), kernel_size=(4, 3))
    assert layer_statistics(lonely).snr == layer_statistics(lonely).grid_mean_to_std == math.inf
    assert layer_statistics(lonely).inverse_snr == layer_statistics(lonely).spread == 0


def test_interior_and_grids_differ() -> None:
    """After an instant share grids are equal, the interior as a whole is not."""
    layer = layer_of((12, 12), kernel_size=3, padding=1, dtype=torch.float32)
    found = share(layer)["layer"].after
    assert found.grid_inverse_snr < 1e-9 < 1e9 < found.grid_snr
    assert found.spread < 1e-7
    assert found.inverse_snr > 1e-3


def test_precision_and_damage() -> None:
    layer = layer_of((9, 9), kernel_size=3, padding=1)
    exact = layer_statistics(layer)
    for dtype, rel in ((torch.float32, 1e-4), (torch.bfloat16, 0.5)):
        rough = layer_of((9, 9), kernel_size=3, padding=1, dtype=dtype)
        with torch.no_grad():
            rough.weight.copy_(layer.weight)
        found = layer_statistics(rough)
        assert found.grid_snr == pytest.approx(exact.grid_snr, rel=rel)
        assert found.norm == pytest.approx(exact.norm, rel=0.01)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0, 0, 0] = math.nan
    found = layer_statistics(layer)
    assert all(math.isnan(getattr(found, name)) for name in ("grid_snr", "spread", "norm"))


def test_an_unusual_order_in_memory() -> None:
    layer = layer_of((6, 6), kernel_size=3, padding=1)
    wanted = layer_statistics(layer)
    layer.weight = torch.nn.Parameter(layer.weight.detach().contiguous())
    assert_same(layer_statistics(layer), wanted)


def test_a_grid_without_a_connection_counts_as_zero() -> None:
    layer = LocallyConnected1d(1, 2, 1, 3, bias=False)
    set_pattern(layer, weights=torch.tensor([True, False]).view(1, 2, 1, 1))
    with torch.no_grad():
        layer.weight[:, 0, 0, 0] = torch.tensor([1.0, 2.0, 3.0])
    found = layer_statistics(layer)
    assert found.snr == pytest.approx((4 / (2 / 3) + 0) / 2)
    assert found.spread == pytest.approx(math.sqrt(2 / 3))
    assert frame_of(layer).members.tolist() == [3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_sums_are_those_of_torch(dtype: torch.dtype) -> None:
    """The fast path on CPUs beside the one for every device, cell by cell."""
    layer = LocallyConnected2d(3, 5, 3, (9, 8), stride=(1, 2), padding=1, dtype=dtype)
    with torch.no_grad():
        layer.weight[:, :, 0, 0] = 0  # components without signal or noise
    storage = to_storage(layer.weight.detach(), layer.geometry)
    cells = statistics._cells(frame_of(layer), dtype)
    (expected,) = statistics._sums([statistics._moments(storage, None, cells)])
    found = taps_cpu.sums_of_measures(storage, cells.of, cells.members)
    assert torch.isfinite(expected).sum() >= 2
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found.to(dtype), expected, rtol=tolerance, atol=0)


def test_layers_measured_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other sizes, dtypes and kernels, with and without absent connections, in their order."""
    monkeypatch.setattr(taps_cpu, "can_compile", lambda storage: False)
    layers = [layer_of(size, **arguments) for size, arguments in CASES.values()]
    layers += [
        layer_of((9, 7), kernel_size=3, dtype=torch.float32),
        layer_of((8, 8), seed=5, kernel_size=3),
    ]
    sever_weights(layers[-1], 0.3)
    found = measure(layers)
    for row, layer in zip(found, layers, strict=True):
        wanted, rel = expected(layer), 1e-9 if layer.weight.dtype == torch.float64 else 1e-4
        assert_same(LayerStatistics(*row.tolist()), wanted, rel)


@pytest.mark.parametrize("border", ["share", "exclude"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_compiled_means_are_those_of_torch(case: str, border: str, threads: int) -> None:
    """The same weights in another way, and autograd is told that they changed."""
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    frame = frame_of(layer, border)  # type: ignore[arg-type]
    storage = to_storage(layer.weight.detach(), layer.geometry).contiguous()
    expected, version = storage.clone(), storage._version
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        taps_cpu.share_means(storage, *frame.in_order)
    finally:
        torch.set_num_threads(before)
    share_means(expected, frame)
    torch.testing.assert_close(storage, expected, rtol=1e-12, atol=1e-14)
    assert len(frame.positions) == 0 or storage._version > version
