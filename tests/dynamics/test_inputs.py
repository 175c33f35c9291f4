"""Input streams: their statistics, and that a presentation does not depend on how it is read."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import Gaussian, Given, Independent, OneHot
from neurosim.dynamics.inputs import InputStream, NeuronNoise, distance_covariance

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
