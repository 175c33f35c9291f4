"""Networks are compiled, all of them, for whole batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import Plain
from torch import nn

from neurosim.training import Place, TrainSettings, train
from neurosim.training.compiling import CONFIG, LIMIT, compile_network


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Batch sizes that a compiler, which does nothing, was asked for."""
    asked: list[int] = []

    def backend(module: Any, inputs: list[Any]) -> Callable[..., Any]:
        maps = [x for x in inputs if isinstance(x, torch.Tensor) and x.ndim == 4]
        asked.append(max(map(len, maps)))  # weights are smaller
        return module.forward

    compile_by, limit = torch.compile, getattr(CONFIG, LIMIT)
    monkeypatch.setattr(
        torch, "compile", lambda m, mode, dynamic: compile_by(m, backend=backend, dynamic=dynamic)
    )
    torch.compiler.reset()
    yield asked
    setattr(CONFIG, LIMIT, limit)
    torch.compiler.reset()


def test_more_networks_than_torch_would_compile(compiled: list[int]) -> None:
    x = torch.ones(2, 1, 3, 3)
    for number in range(1, 13):
        network = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(number)))
        assert torch.equal(compile_network(network)(x), network(x))
    assert compiled == [2] * 12


def test_a_small_last_batch_is_not_compiled(
    tmp_path: Path, settings: Callable[..., TrainSettings], compiled: list[int]
) -> None:
    """Of 24 images, 10 and 10 and 4; and the result is that of the plain network."""
    ends = []
    for compile_it in (True, False):
        network = Plain()
        wanted = settings(batch_size=10, epochs=2, compile=compile_it)
        train(wanted, Place(tmp_path / f"{compile_it}.h5", "cpu", quiet=True), network)
        ends.append(network.state_dict())
    assert compiled == [10]
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
