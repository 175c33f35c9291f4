"""Learning rates and optimizers, against what was published and plain formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import Plain, assert_same, outcome

from neurosim.recording import RunReader
from neurosim.training import OptimisationSettings, Place, TrainSettings, train
from neurosim.training.optimisation import build_optimizer, learning_rate, set_learning_rate

Make = Callable[..., TrainSettings]


def test_the_published_schedule() -> None:
    """Divided by 4 at 100 and at 150 of 200 epochs (App. B)."""
    settings = OptimisationSettings(lr=0.8, epochs=200)
    rates = [learning_rate(settings, epoch) for epoch in range(200)]
    assert rates == [0.8] * 100 + [0.2] * 50 + [0.05] * 50
    assert learning_rate(settings, 99 + 97 / 98) == 0.8


def test_warm_up_then_cosine() -> None:
    settings = OptimisationSettings(lr=1.0, epochs=10, lr_schedule="cosine", warmup=2)
    assert [learning_rate(settings, e) for e in (0, 0.5, 1, 2)] == [0, 0.25, 0.5, 1]
    assert learning_rate(settings, 6) == pytest.approx(0.5)
    assert learning_rate(settings, 4) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert learning_rate(settings, 9.999) < 1e-6


@given(
    schedule=st.sampled_from(["steps", "cosine", "constant"]),
    epochs=st.integers(1, 50),
    warmup=st.integers(0, 49),
    moment=st.floats(0, 1, exclude_max=True),
)
def test_rates_rise_while_warming_up_and_never_again(
    schedule: str, epochs: int, warmup: int, moment: float
) -> None:
    warmup = min(warmup, epochs - 1)
    settings = OptimisationSettings(
        lr=0.1,
        epochs=epochs,
        lr_schedule=schedule,
        warmup=warmup,  # type: ignore[arg-type]
    )
    epoch = moment * epochs
    now, later = learning_rate(settings, epoch), learning_rate(settings, min(epoch + 0.5, epochs))
    assert 0 <= now <= 0.1
    assert later >= now if epoch + 0.5 < warmup else epoch < warmup or later <= now
    if schedule == "constant" and epoch >= warmup:
        assert now == 0.1


def test_rows_have_the_rate_of_their_step(tmp_path: Path, settings: Make) -> None:
    """4 steps an epoch."""
    wanted = settings(epochs=8, lr_schedule="steps", warmup=1, record_every=1, lr=1e-3)
    train(wanted, Place(tmp_path / "run.h5", "cpu", quiet=True), Plain())
    with RunReader(tmp_path / "run.h5") as run:
        rates = [0, 0.25, 0.5, 0.75, *[1] * 12, *[1 / 4] * 8, *[1 / 16] * 8]
        np.testing.assert_allclose(run["learning_rate"], np.array(rates) * 1e-3)


def reference(kind: str, w: float, gradients: list[float], lr: float, decay: float) -> float:
    """One weight by the rules as they are written."""
    m = v = 0.0
    for t, gradient in enumerate(gradients, start=1):
        if kind == "adamw":
            w -= lr * decay * w
        else:
            gradient += decay * w
        if kind == "sgd":
            m = 0.9 * m + gradient
            w -= lr * m
        else:
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            w -= lr * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_optimizers(kind: str) -> None:
    settings = OptimisationSettings(optimizer=kind, lr=5.0, weight_decay=0.1, momentum=0.9)  # type: ignore[arg-type]
    model = torch.nn.Module()
    weight = model.weight = torch.nn.Parameter(torch.tensor([2.0]))
    frozen = model.frozen = torch.nn.Parameter(torch.tensor([3.0]), requires_grad=False)
    optimizer = build_optimizer(settings, model)
    set_learning_rate(optimizer, 0.01)
    gradients = [0.5, -1.0, 2.0]
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    expected = reference(kind, 2.0, gradients, 0.01, 0.1)
    assert float(weight.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(frozen) == 3


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precisions_train_nearly_alike(tmp_path: Path, settings: Make, precision: str) -> None:
    """Weights stay in single precision; losses differ by what half precision rounds."""
    losses = {}
    for name in ("float32", precision):
        wanted = settings(precision=name, optimizer="sgd", lr=1e-2, gradients=True)
        train(wanted, Place(tmp_path / f"{name}.h5", "cpu", quiet=True), Plain())
        with RunReader(tmp_path / f"{name}.h5") as run:
            losses[name] = np.concatenate([run["loss"], run["gradient_norm"].ravel()])
        weights = outcome(tmp_path / f"{name}.h5")["state"]["model"].values()
        assert {value.dtype for value in weights} == {torch.float32}
    np.testing.assert_allclose(losses["float32"], losses[precision], rtol=0.1)
    assert not np.array_equal(losses["float32"], losses[precision])


def test_patience(tmp_path: Path, settings: Make) -> None:
    """The first epoch is the best where nothing moves."""
    wanted = settings(lr=1e-12, epochs=30, patience=3)
    result = train(wanted, Place(tmp_path / "run.h5", "cpu", quiet=True), Plain())
    assert result.best == result.final.top1 > 0
    assert (result.epochs, result.steps) == (4, 16)
    state = outcome(tmp_path / "run.h5")["state"]["progress"]
    assert (state["best_epoch"], state["epoch"]) == (1, 4)


def test_steps_within_the_backward_pass_end_the_same(tmp_path: Path, settings: Make) -> None:
    """With sleeps between them, and shared moments."""
    wanted = {"sleep": "instant", "every": 3, "moments": "share"}
    ends = []
    for early in (False, True):
        path = tmp_path / f"{early}.h5"
        run = settings(**wanted, step_in_backward=early)
        train(run, Place(path, "cpu", quiet=True), Plain(dropout=0.3))
        ends.append(outcome(path))
        del ends[-1]["state"]["settings"]
    assert_same(*ends)
