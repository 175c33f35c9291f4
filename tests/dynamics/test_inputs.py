"""Input streams: their statistics, and that a presentation does not depend on how it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from neurosim.dynamics import (
    Gaussian,
    Given,
    Independent,
    OneHot,
    Plasticity,
    RateCircuit,
    simulate,
)
from neurosim.dynamics.draws import NeuronNoise
from neurosim.dynamics.inputs import InputStream, distance_covariance
from neurosim.errors import InvalidArgument

COVARIANCE = distance_covariance(2, 1.5)
STREAMS: list[InputStream] = [
    Gaussian(4, 40_000),
    Gaussian(4, 40_000, mean=1.0, std=0.5),
    Gaussian(4, 40_000, covariance=COVARIANCE),
    Gaussian(4, 40_000, mean=0.3, rectified=True),
    Gaussian(4, 40_000, covariance=COVARIANCE, rectified=True),
    *(Independent(4, 40_000, kind=kind) for kind in Independent.kinds),  # type: ignore[arg-type]
    OneHot(4, 40_000),
    OneHot(4, 40_000, order="random"),
    Given.of(np.random.default_rng(0).standard_normal((40_000, 4))),
]


def name(stream: InputStream) -> str:
    return f"{type(stream).__name__} {getattr(stream, 'kind', getattr(stream, 'order', ''))}"


@pytest.mark.parametrize("stream", STREAMS, ids=name)
def test_second_moment_is_what_is_drawn(stream: InputStream) -> None:
    x = stream.array()
    assert x.shape == (40_000, 4)
    np.testing.assert_allclose(x.T @ x / len(x), stream.second_moment(), atol=0.04)
    assert stream.energy == pytest.approx(float((x**2).sum(1).mean()), rel=0.02)
    if stream.independent_zero_mean:
        assert np.abs(x.mean(0)).max() < 0.03
        assert np.abs(x[1:].T @ x[:-1] / len(x)).max() < 0.03


@pytest.mark.parametrize("stream", STREAMS, ids=name)
def test_any_part_reads_the_same(stream: InputStream) -> None:
    whole = stream.array()
    for start, stop in ((0, 1), (255, 257), (1000, 1777), (39_999, 40_000)):
        parts = list(stream.read(start, stop))
        assert parts[0][0] == start
        np.testing.assert_array_equal(np.concatenate([x for _, x in parts]), whole[start:stop])


@dataclass(frozen=True)
class Own(InputStream):
    """A stream of a user's, which draws `rows` at a time."""

    rows: int | None = None
    width: int = 3
    value: float = 1.0

    def draw(self, generator: np.random.Generator, first: int, count: int) -> np.ndarray:
        return self.value * generator.normal(size=(self.rows or count, self.width))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (
            Own(3, 600, rows=100),
            r"draw.shape must be \(count, dimension\) = \(256, 3\), got \(1",
        ),
        (Own(3, 600, width=4), r"Own.draw.shape must be .* = \(256, 3\), got \(256, 4\)"),
        (Own(3, 600, value=np.nan), "Own.draw must be finite, got nan at index"),
    ],
)
def test_own_streams_draw_what_they_were_asked_for(stream: Own, message: str) -> None:
    """Fewer rows would end the run early, and nothing would say so."""
    assert Own(3, 600).array().shape == (600, 3)
    with pytest.raises(InvalidArgument, match=message):
        stream.array()
    with pytest.raises(InvalidArgument, match=message):
        simulate(np.ones((4, 3)), stream, response=RateCircuit(), plasticity=Plasticity())


def test_given_inputs_are_as_many_as_they_say() -> None:
    with pytest.raises(InvalidArgument, match=r"= \(10, 4\), got \(3, 4\)"):
        Given(4, 10, values=np.ones((3, 4)))
    with pytest.raises(InvalidArgument, match=r"inputs\.values must be finite, got inf"):
        Given(4, 3, values=np.full((3, 4), np.inf))


def test_components_that_are_always_zero_have_no_moment() -> None:
    stream = Gaussian(2, 20_000, covariance=[[1, 0], [0, 0]], rectified=True)  # type: ignore
    np.testing.assert_allclose(stream.second_moment(), np.diag([0.5, 0.0]), atol=1e-12)
    assert stream.energy == pytest.approx((stream.array() ** 2).sum(1).mean(), rel=0.05)


def test_non_negative_inputs_are() -> None:
    for stream in (Gaussian(9, 500, rectified=True), Independent(9, 500, kind="exponential")):
        assert stream.array().min() >= 0


def test_one_hot_shows_one_element() -> None:
    x = OneHot(5, 12).array()
    assert (np.count_nonzero(x, axis=1) == 1).all()
    assert x.argmax(1).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_seeds_differ_and_repeat() -> None:
    one, same, other = (Gaussian(3, 10, seed=s).array() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


def test_noise_is_independent_across_neurons_and_presentations() -> None:
    noise = NeuronNoise(3, 50, 4, 2.0)
    draws = np.stack([noise.at(k) for k in range(3000)]) / 2
    assert abs(draws.mean()) < 0.01
    assert draws.var() == pytest.approx(1, abs=0.01)
    assert abs((draws[:, 0] * draws[:, 1]).mean()) < 0.05
    assert abs((draws[1:] * draws[:-1]).mean()) < 0.01
    np.testing.assert_array_equal(NeuronNoise(3, 50, 4, 2.0).at(2999) / 2, draws[2999])


def test_noise_is_not_the_inputs_of_the_same_seed() -> None:
    shown = Gaussian(4, 3000, seed=3).array()
    noise = NeuronNoise(3, 1, 4, 1.0)
    draws = np.stack([noise.at(k)[0] for k in range(3000)])
    assert abs(np.corrcoef(shown.ravel(), draws.ravel())[0, 1]) < 0.05
