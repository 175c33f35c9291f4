"""Networks as settings describe them, and whether they fit what they are trained on."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import assert_same
from torch import nn

from neurosim.data import Loader
from neurosim.dynamics import Constant, RateCircuit
from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d
from neurosim.recording import RunReader
from neurosim.sleep import Circuit, Hebbian, Layerwise
from neurosim.training import Place, SleepSettings, TrainSettings, train
from neurosim.training.build import build_data, build_network, check_batches

Make = Callable[..., TrainSettings]
SIZE = (8, 8)


def built(settings: TrainSettings) -> Any:
    return build_network(settings.network, build_data(settings.data, 0), SIZE)


def test_layers_that_stay_convolutional(settings: Make) -> None:
    wanted = settings(model="resnet20", width=1.0, conv_first=1, conv_layers=("*.downsample.0",))
    kinds = {name: type(m) for name, m in built(wanted).named_modules() if hasattr(m, "stride")}
    shared = {name for name, kind in kinds.items() if kind is nn.Conv2d}
    assert shared == {"conv1", "layer2.0.downsample.0", "layer3.0.downsample.0"}
    assert {kind for name, kind in kinds.items() if name not in shared} == {LocallyConnected2d}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv_first": 4}, "--conv-first or --conv-layers must be from 0 to 3, got 4"),
        ({"conv_layers": ("layer*",)}, "--conv-layers must be a pattern that some convolution"),
    ],
)
def test_layers_that_are_not_there(settings: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        built(settings(**options))


def test_patterns_pass_through_layers_that_stay_convolutional(
    tmp_path: Path, settings: Make
) -> None:
    """Images of tiles begin where the network does, not at its first local layer."""
    sleep = {"sleep": "layerwise", "every": 4, "presentations": 30, "rate": 0.5}
    wanted = settings(conv_first=1, epochs=1, **sleep)
    train(wanted, Place(tmp_path / "run.h5", "cpu", quiet=True))
    with RunReader(tmp_path / "run.h5") as run:
        measures = [str(name) for name in run["measure"]]
        before, after = run["sleep_statistics"][0, :, :, measures.index("spread")]
    assert (after < 0.9 * before).all()


@pytest.mark.parametrize(("batch_size", "last"), [(1, 1), (23, 1), (6, 6)])
def test_batch_norm_of_vectors_needs_more_than_one_image(
    tmp_path: Path, settings: Make, batch_size: int, last: int
) -> None:
    place = Place(tmp_path / "run.h5", "cpu", quiet=True)
    wanted = settings(
        model="perceptron", connectivity="dense", width=0.01, batch_size=batch_size, epochs=1
    )
    if last > 1:
        assert train(wanted, place).steps == 4
        return
    message = f"--batch-size must leave more than one of 24 images .* got {batch_size}: this"
    with pytest.raises(InvalidArgument, match=message):
        train(wanted, place)
    assert not place.run_file.exists()


def test_batch_norm_of_maps_does_not(settings: Make) -> None:
    """And to look whether it does changes nothing: no weight, and not what is drawn next."""
    wanted = settings(batch_size=23)
    data, network = build_data(wanted.data, 0), built(wanted).append(nn.Dropout(0.5))
    before, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    loader = Loader(data.train, 23, mean=data.mean, std=data.std)
    check_batches(network, loader, (1, *SIZE), torch.device("cpu"))
    assert_same(network.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_help_says_what_mechanisms_do_by_default() -> None:
    """In words, since they differ by mechanism."""
    circuit, hebbian, layerwise = Circuit(), Hebbian(), Layerwise()
    text = " ".join((inspect.getsource(SleepSettings)).split())
    response, plasticity = circuit.response, circuit.plasticity
    assert isinstance(response, RateCircuit)
    assert isinstance(plasticity.rate, Constant)
    for said in (
        f"(default: {circuit.presentations}), or batches of them by hebbian ({hebbian.steps}) and "
        f"layerwise ({layerwise.steps})",
        f"(default: {response.alpha:g})",
        f"(default: {plasticity.gamma:g} circuit, 1e-5 hebbian, {layerwise.gamma:g} layerwise)",
        f"(default: 8e-6 circuit, {hebbian.rate:g} hebbian, {layerwise.rate:g} layerwise)",
        f"in ms (default: {response.dt:g})",
    ):
        assert said in text
    assert (hebbian.gamma, plasticity.rate.base) == (1e-5, 8e-6)
