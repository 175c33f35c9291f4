"""CKA against whole Gram matrices, and where its value is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import analysis.representations.cka
from analysis.representations.cka import linear_cka
from neurosim.errors import InvalidArgument


def whole(x: np.ndarray, z: np.ndarray, unbiased: bool) -> float:
    """Gretton's plain and Song's unbiased estimate of HSIC, from the definitions."""
    n, ones = len(x), np.ones(len(x))
    k, m = x @ x.T, z @ z.T

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        if not unbiased:
            h = np.eye(n) - 1 / n
            return np.trace(h @ a @ h @ b)
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        sums = (ones @ a @ ones) * (ones @ b @ ones) / ((n - 1) * (n - 2))
        return np.trace(a @ b) + sums - 2 / (n - 2) * (ones @ a @ b @ ones)

    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@given(
    n=st.integers(6, 40),
    p=st.integers(1, 60),
    q=st.integers(1, 60),
    seed=st.integers(0, 2**16),
    block=st.integers(1, 50),
)
@settings(max_examples=60, deadline=None)
def test_blocks_equal_whole_matrices(n: int, p: int, q: int, seed: int, block: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, p)) + 2
    z = x @ random.standard_normal((p, q)) + random.standard_normal((n, q))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis.representations.cka, "BLOCK", block)
        for unbiased in (False, True):
            expected = whole(x, z, unbiased)
            if np.isfinite(expected):
                found = linear_cka(x, z, unbiased=unbiased)
                assert found == pytest.approx(expected, abs=1e-9)


def test_independent_noise() -> None:
    """1,000 samples of 10,000-dimensional noise: the plain estimate is p / (p + n)."""
    random = np.random.default_rng(0)
    x, z = random.standard_normal((2, 1000, 10_000), np.float32)
    assert linear_cka(x, z, unbiased=False) == pytest.approx(10 / 11, abs=0.01)
    assert linear_cka(x, z, unbiased=False) > 0.9
    assert abs(linear_cka(x, z)) < 0.1
    assert linear_cka(x, x) == pytest.approx(1)


@pytest.mark.parametrize("unbiased", [False, True])
def test_rotation_scale_and_origin_do_not_count(unbiased: bool) -> None:
    random = np.random.default_rng(1)
    x, z = random.standard_normal((50, 20)), random.standard_normal((50, 30))
    rotation, _ = np.linalg.qr(random.standard_normal((20, 20)))
    assert linear_cka(x, 3 * x @ rotation - 7, unbiased=unbiased) == pytest.approx(1)
    moved = linear_cka(5 * x @ rotation + 1, z, unbiased=unbiased)
    assert moved == pytest.approx(linear_cka(x, z, unbiased=unbiased))
    assert moved == pytest.approx(linear_cka(z, x, unbiased=unbiased))


@pytest.mark.parametrize("size", [1e20, 1e-25, 1.0])
def test_neither_large_nor_small_numbers_leave_single_precision(size: float) -> None:
    """Fourth powers of 1e20 overflow, those of 1e-25 vanish."""
    x, z = np.random.default_rng(3).standard_normal((2, 30, 8))
    similar = x + 0.5 * z
    expected = linear_cka(x, similar)
    found = linear_cka((size * x).astype(np.float32), (size * similar).astype(np.float32))
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0.3 < found < 1


def test_tensors_are_matrices_too() -> None:
    x = torch.tensor(np.random.default_rng(4).standard_normal((30, 8)), requires_grad=True)
    z = x.detach().to(torch.bfloat16)
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, z) == pytest.approx(1, abs=0.01)


def test_unbiased_is_right_on_average_where_the_plain_one_is_not() -> None:
    """Two views of one source: CKA of few stimuli, on average, as that of very many."""
    random = np.random.default_rng(2)
    readouts = random.standard_normal((2, 3, 40))

    def views(n: int) -> np.ndarray:
        source = random.standard_normal((n, 3))
        return source @ readouts + 2 * random.standard_normal((2, n, 40))

    truth = linear_cka(*views(6000))
    found = np.array([[linear_cka(*v, unbiased=u) for u in (False, True)]
                      for v in (views(60) for _ in range(80))])  # fmt: skip
    plain, unbiased = found.mean(0)
    assert unbiased == pytest.approx(truth, abs=0.03)
    assert plain > truth + 0.05


@pytest.mark.parametrize(
    ("x", "z", "message"),
    [
        (np.ones((10, 3)), np.ones((9, 3)), "same stimuli, got 10 and 9"),
        (np.ones((10, 3)), np.eye(10), "must vary over stimuli"),
        (np.full((10, 3), 0.1), np.random.default_rng(0).normal(size=(10, 4)), "must vary over"),
        (np.full((10, 3), 0.7, np.float32), np.eye(10), "must vary over stimuli"),
        (np.eye(3), np.eye(3), "at least 4"),
        (np.full((10, 3), np.nan), np.eye(10), "x must be finite"),
        (np.ones(10), np.eye(10), "x must be a matrix"),
    ],
)
def test_bad_input(x: np.ndarray, z: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        linear_cka(x, z)
