"""A sleep as one matrix against every neuron's own differential equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from brute_force import CASES, Neurons, biased, circuit, layer_of, minibatches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim.dynamics import Constant, InstantResponse, Plasticity, RateCircuit, Response
from neurosim.dynamics.rates import InverseSqrt, InverseTime
from neurosim.nn.local import LocallyConnected
from neurosim.nn.ops.local import to_storage
from neurosim.sleep import (
    Circuit,
    Frame,
    Hebbian,
    Instant,
    Patterns,
    Sleep,
    Tiles,
    frame_of,
    presentation_cpu,
    share,
)
from neurosim.sleep.frame import Border
from neurosim.sleep.patterns import TileShape

each_case = pytest.mark.parametrize("case", CASES)
each_border = pytest.mark.parametrize("border", ["share", "exclude"])

PRESENTATIONS = 6
FINE = RateCircuit(tau=20, alpha=4, bias=2, steps=40, dt=0.5)
QUICK = Plasticity(InverseSqrt(base=2e-3, start=3), gamma=0.2, momentum=0.5)


def tiles_for(layer: LocallyConnected, steps: int = PRESENTATIONS, batch: int = 1) -> Tensor:
    """Tiles with a mean, different for every group."""
    shape = (steps, batch, layer.in_channels, *layer.kernel_size)
    return 0.3 + torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def patches(neurons: Neurons, tiles: Tensor) -> list[np.ndarray]:
    """What every neuron sees of each tile, batches one after the other."""
    return [neurons.patches(tile.numpy()) for tile in tiles.flatten(0, 1)]


def expected(neurons: Neurons, shown: list[np.ndarray], response: Response, rule: Plasticity):
    """The weights after stepping every neuron."""

    def rate(t: float) -> float:
        return float(rule.at(np.array([t]))[0])

    common = {"rate": rate, "gamma": rule.gamma, "momentum": rule.momentum}
    if isinstance(response, InstantResponse):
        return biased(neurons, shown, subtracted=response.subtracted, **common)
    return circuit(
        neurons, shown, tau=response.tau, alpha=response.alpha, b=response.bias,
        steps=response.steps, dt=response.dt, **common,
    )  # fmt: skip


def assert_sleeps(
    neurons: Neurons, wanted: np.ndarray, sleep: Sleep, tolerance: float = 1e-10
) -> None:
    """The weight after the sleep is the wanted one, and not what it was."""
    weight, slept = neurons.layer.weight.detach(), neurons.written(wanted)
    moved = not torch.allclose(weight, slept, atol=1e-4)
    assert moved or all(len(group) == 1 for group in neurons.groups)
    sleep(neurons.layer)
    torch.testing.assert_close(weight, slept, rtol=0, atol=tolerance)


@each_border
@each_case
def test_circuit_equals_every_neurons_equation(case: str, border: str) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    neurons = Neurons.of(layer, border)
    if not neurons.positions:
        pytest.skip("all positions are at the border")
    tiles = tiles_for(layer)
    wanted = expected(neurons, patches(neurons, tiles), FINE, QUICK)
    mechanism = Circuit(FINE, QUICK, PRESENTATIONS)
    assert_sleeps(neurons, wanted, Sleep(mechanism, border, Tiles(tiles)))


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (RateCircuit(alpha=10, steps=30), Plasticity(InverseSqrt(base=1e-3), gamma=0.1)),
        (RateCircuit(alpha=3, steps=30, dt=2), Plasticity(1e-4, gamma=0.5, momentum=0.9)),
        (RateCircuit(alpha=40, steps=50, dt=0.2), Plasticity(1e-3, gamma=0.01, momentum=0.0)),
        (InstantResponse(), Plasticity(InverseTime(10, 500), gamma=0.1, momentum=0.5)),
        (InstantResponse(3), Plasticity(0.02, gamma=0.3, momentum=0.0)),
    ],
    ids=["dt 1", "dt 2", "dt 0.2", "Eq. 4", "Eq. 21"],
)
@pytest.mark.parametrize("case", ["stride 2", "groups"])
def test_every_response_and_rule(case: str, response: Response, rule: Plasticity) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    neurons, tiles = Neurons.of(layer), tiles_for(layer)
    wanted = expected(neurons, patches(neurons, tiles), response, rule)
    mechanism = Circuit(response, rule, PRESENTATIONS)
    assert_sleeps(neurons, wanted, Sleep(mechanism, patterns=Tiles(tiles)))


@each_border
@each_case
def test_hebbian_equals_a_loop_over_neurons(case: str, border: str) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    neurons = Neurons.of(layer, border)
    if not neurons.positions:
        pytest.skip("all positions are at the border")
    tiles = tiles_for(layer, steps=4, batch=3)
    shown = [[neurons.patches(tile.numpy()) for tile in batch] for batch in tiles]
    rule = {"rate": 0.02, "gamma": 0.3, "momentum": 0.4}
    stepped = minibatches(neurons, shown, **(rule | {"rate": lambda t: 0.02}))
    mechanism = Hebbian(steps=4, batch=3, **rule)
    assert_sleeps(neurons, stepped, Sleep(mechanism, border, Tiles(tiles)))


@st.composite
def layers(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any], int, int]:
    """Any small layer: size, arguments, channels in and out."""
    axes = draw(st.integers(1, 2))

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation, padding = (
        per_axis(1, 4),
        per_axis(1, 4),
        per_axis(1, 4),
        per_axis(0, 3),
    )
    extra = per_axis(0, 9)
    extents = zip(kernel, dilation, padding, extra, strict=True)
    size = tuple(max(1, d * (k - 1) + 1 - 2 * p) + e for k, d, p, e in extents)
    groups = draw(st.integers(1, 2))
    arguments = {
        "kernel_size": kernel, "stride": stride, "dilation": dilation, "padding": padding,
        "groups": groups,
    }  # fmt: skip
    return size, arguments, groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))


@settings(max_examples=60, deadline=None)
@given(case=layers(), border=st.sampled_from(["share", "exclude"]))
def test_any_geometry(case: tuple[tuple[int, ...], dict[str, Any], int, int], border: str) -> None:
    size, arguments, channels, outputs = case
    layer = layer_of(size, channels, outputs, **arguments)
    neurons, tiles = Neurons.of(layer, border), tiles_for(layer, 3)
    response = RateCircuit(alpha=5, steps=10)
    rule = Plasticity(2e-3, gamma=0.2, momentum=0.3)
    wanted = layer.weight.detach().clone()
    if neurons.positions:
        wanted = neurons.written(expected(neurons, patches(neurons, tiles), response, rule))
    Sleep(Circuit(response, rule, 3), border, Tiles(tiles))(layer)  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=0, atol=1e-10)


@each_case
def test_grids_are_those_that_see_the_same(case: str) -> None:
    """The frame's arithmetic against a comparison of patches, and its taps against both."""
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    frame, neurons = frame_of(layer), Neurons.of(layer)
    grids: dict[int, list[int]] = {}
    for position, grid in enumerate(frame.grid.tolist()):
        grids.setdefault(grid, []).append(position)
    assert sorted(grids.values()) == sorted(neurons.groups)
    assert sorted(map(len, grids.values())) == sorted(frame.members.tolist())
    total = len(neurons.positions)
    for position, elements in enumerate(neurons.elements):
        taps = torch.tensor(elements).argsort()  # the tap that sees each element
        assert torch.equal(frame.rows[position], taps * total + position)


def shape_of(layer: LocallyConnected) -> TileShape:
    return TileShape(layer.groups, layer.in_channels // layer.groups, layer.kernel_size)


def stepped(mechanism: Any, layer: LocallyConnected, patterns: Any, **arguments: Any) -> Tensor:
    """Weights of the torus frame, every neuron by itself."""
    frame: Frame = frame_of(layer)
    weights = frame.gather(to_storage(layer.weight.detach(), layer.geometry))
    return mechanism.step(weights, frame, patterns, shape_of(layer), **arguments)


@pytest.fixture(params=["compiled", "torch"])
def _passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What steps neurons one by one: compiled here, written out elsewhere."""
    if request.param == "torch":
        monkeypatch.setattr(presentation_cpu, "can_compile", lambda *_: False)


@pytest.mark.usefixtures("_passes")
@pytest.mark.parametrize("own_tiles", [False, True], ids=["seeded", "tiles of each group"])
@pytest.mark.parametrize("case", ["square", "groups", "volume", "dilation 2, kernel 4"])
@pytest.mark.parametrize(
    "mechanism",
    [
        Circuit(FINE, QUICK, PRESENTATIONS),
        Circuit(InstantResponse(5), Plasticity(0.01, gamma=0.1, momentum=0.5), PRESENTATIONS),
        Hebbian(steps=3, batch=2, rate=0.02, gamma=0.1, momentum=0.3),
    ],
    ids=["circuit", "Eq. 21", "Eq. 4"],
)
def test_stepping_without_noise_equals_the_operator(
    mechanism: Circuit | Hebbian, case: str, own_tiles: bool
) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    patterns = Tiles(tiles_for(layer)) if own_tiles else Patterns(seed=3)
    neuron_by_neuron = stepped(mechanism, layer, patterns)
    Sleep(mechanism, patterns=patterns)(layer)
    frame = frame_of(layer)
    slept = frame.gather(to_storage(layer.weight.detach(), layer.geometry))
    torch.testing.assert_close(neuron_by_neuron, slept, rtol=0, atol=1e-12)


@each_border
@each_case
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=["64", "32"]
)
@pytest.mark.parametrize("own_tiles", [False, True], ids=["seeded", "tiles of each group"])
def test_the_compiled_product_is_the_one_in_torch(
    case: str, border: Border, dtype: torch.dtype, tolerance: float, own_tiles: bool
) -> None:
    """With any number of threads; memory that is newly taken holds NaN."""
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    frame = frame_of(layer, border)
    if len(frame.positions) == 0:
        pytest.skip("all positions are at the border")
    patterns = Tiles(tiles_for(layer)) if own_tiles else Patterns(seed=3)
    operator = Circuit(FINE, QUICK, PRESENTATIONS).operator(patterns, shape_of(layer))
    operator = operator.to(torch.device("cpu"), dtype)
    start = to_storage(layer.weight.detach(), layer.geometry).to(dtype)
    wanted = start.clone()
    operator.multiply(wanted, frame)
    found = []
    before = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(start.clone())
            operator.apply(found[-1], frame)
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(found[0], wanted, rtol=0, atol=tolerance)
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_a_sleep_counts_as_a_change_to_autograd() -> None:
    """Compiled passes write behind torch's back: what was saved before must not be used."""
    size, arguments = CASES["square"]
    for sleep in (Sleep(Circuit(FINE, QUICK, PRESENTATIONS)), Sleep()):
        layer = layer_of(size, **arguments)
        x = torch.randn(2, layer.in_channels, *layer.input_size, dtype=torch.float64)
        loss = layer(x.requires_grad_()).sum()
        sleep(layer)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_frame_without_positions_stays_as_it_is() -> None:
    layer = layer_of((2, 2), kernel_size=3, padding=1)
    frame = frame_of(layer, "exclude")
    assert len(frame.positions) == 0
    storage = to_storage(layer.weight.detach(), layer.geometry)
    before = storage.clone()
    Instant().apply(storage, frame)
    operator = Circuit(FINE, QUICK, PRESENTATIONS).operator(Patterns(), shape_of(layer))
    operator.apply(storage, frame)
    assert torch.equal(storage, before)


def test_groups_of_seeded_patterns_see_the_same_tile() -> None:
    size, arguments = CASES["groups"]
    layer = layer_of(size, **arguments)
    shape = shape_of(layer)
    (stream,) = Patterns(seed=3).streams(shape, PRESENTATIONS, 0)
    tiles = torch.from_numpy(stream.array()).unflatten(1, (*shape.kernel, shape.channels))
    tiles = tiles.movedim(-1, 1).repeat(1, layer.groups, 1, 1)[:, None]
    other = layer_of(size, **arguments)
    mechanism = Circuit(FINE, QUICK, PRESENTATIONS)
    Sleep(mechanism, patterns=Patterns(seed=3))(layer)
    Sleep(mechanism, patterns=Tiles(tiles))(other)
    torch.testing.assert_close(layer.weight, other.weight, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("_passes")
@pytest.mark.parametrize("case", ["square", "stride is the kernel", "dilation 2, kernel 2"])
def test_noise_is_that_of_every_neuron(case: str) -> None:
    """Against the plain equations with the same noise, drawn again from the same generator."""
    size, arguments = CASES[case]
    layer = layer_of(size, **arguments)
    neurons, tiles, sigma = Neurons.of(layer), tiles_for(layer), 0.5
    generator = torch.Generator().manual_seed(8)
    shape = (len(neurons.positions), shape_of(layer).dimension, layer.out_channels)
    noise = [
        torch.empty(shape, dtype=torch.float64).normal_(0, sigma, generator=generator)
        for _ in range(PRESENTATIONS)
    ]
    shown = []
    for tile, drawn in zip(patches(neurons, tiles), noise, strict=True):
        by_element = drawn.numpy().reshape(shape[0], -1, layer.in_channels, shape[2])
        by_tap = np.stack([row[e] for row, e in zip(by_element, neurons.elements, strict=True)])
        shown.append(tile + by_tap.transpose(0, 3, 2, 1))
    rule = Plasticity(InverseSqrt(base=1e-3, start=3), gamma=0.2, momentum=0.5)
    for mechanism, wanted in (
        (Circuit(FINE, rule, PRESENTATIONS), expected(neurons, shown, FINE, rule)),
        (
            Hebbian(steps=3, batch=2, rate=0.02, gamma=0.1),
            minibatches(
                neurons, [shown[0:2], shown[2:4], shown[4:6]],
                rate=lambda t: 0.02, gamma=0.1, momentum=0.0,
            ),
        ),
    ):  # fmt: skip
        slept = layer_of(size, **arguments)
        sleep = Sleep(mechanism, patterns=Tiles(tiles), noise=sigma)
        sleep(slept, generator=torch.Generator().manual_seed(8))
        torch.testing.assert_close(
            slept.weight.detach(), neurons.written(wanted), rtol=0, atol=1e-10
        )


def test_a_rate_is_lowered_for_longer_inputs_only() -> None:
    """With |x|^2 = D > reference the sleep is that of the rate times reference / D."""
    size, arguments = CASES["no padding"]
    layer, other = layer_of(size, **arguments), layer_of(size, **arguments)
    tiles = tiles_for(layer).sign()  # |x|^2 = D = 36 exactly
    rule = Plasticity(Constant(1e-3), gamma=0.1, momentum=0.0)
    lowered = Plasticity(Constant(1e-3 / 4), gamma=0.1, momentum=0.0)
    share(layer, Circuit(FINE, rule, PRESENTATIONS, reference=9), patterns=tiles)
    share(other, Circuit(FINE, lowered, PRESENTATIONS, reference=36), patterns=tiles)
    torch.testing.assert_close(layer.weight, other.weight, rtol=0, atol=1e-13)


def test_what_sleeps_take_unequally_adds_up_unless_tiles_are_drawn_anew() -> None:
    """Directions of the mean weight, after 20 sleeps: the most against the least that is left."""
    circuit, shape, steps = Circuit(presentations=1000), TileShape(1, 16, (3, 3)), 20

    def unequal(draws: list[int]) -> float:
        means = [circuit.operator(Patterns(), shape, draw).mean[0] for draw in draws]
        left = torch.linalg.svdvals(torch.linalg.multi_dot(means))
        return float(left.max() / left.min())

    same, anew, once = unequal([0] * steps), unequal([*range(steps)]), unequal([0, 0]) ** 0.5
    assert same == pytest.approx(once**steps, rel=0.01)
    assert np.log(anew) == pytest.approx(np.log(same) / np.sqrt(steps), rel=0.2)
