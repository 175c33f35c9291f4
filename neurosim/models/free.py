"""Free convolutional networks and their convolutional twins (Ott et al. 2020, Table A.2)."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from neurosim.errors import require, require_choice
from neurosim.nn import LocallyConnected2d, to_low_rank
from neurosim.nn.masked import sever_inputs, sever_weights, unconnected

Plan = Literal["mnist", "cifar"]
Connectivity = Literal["conv", "local", "low-rank"]
Fans = Literal["layer", "position"]
Severed = Literal["inputs", "weights"]
Plain = TypeVar("Plain", nn.Conv2d, nn.Linear)
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear, LocallyConnected2d)

# (kernel size, channels, stride) of every layer; none of them pads.
PLANS: dict[Plan, tuple[tuple[int, int, int], ...]] = {
    "mnist": ((3, 32, 2), (3, 64, 2), (3, 128, 1)),
    "cifar": ((5, 64, 2), (5, 128, 2), (3, 256, 1)),
}
HIDDEN = 1024


def free(
    plan: Plan = "mnist",
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: tuple[int, int] = (28, 28),
    in_channels: int = 1,
    *,
    fans: Fans = "layer",
    probability: float = 0.0,
    severed: Severed = "inputs",
    rank: int = 2,
) -> nn.Sequential:
    """Three valid layers with ReLU, 1,024 hidden neurons, a classifier: a CNN or an FCN.

    Weights are Xavier-uniform, biases zero; free layers have one per position, as published. Banks
    of low-rank layers are drawn as `LowRankLocal2d` draws them, He-uniform.

    Args:
        plan: kernels, channels and strides: those for MNIST or those for CIFAR.
        classes: of the classifier.
        connectivity: "conv" for the CNN, "local" for the FCN, "low-rank" for layers between them
            (`neurosim.nn.low_rank`), which start as convolutions.
        input_size: height and width of the images.
        in_channels: channels of the images.
        fans: of a free layer's Xavier initialisation. "layer" counts the connections of all P
            positions, as the published code did by Keras' default, whose limit is
            sqrt(6 / (P (k^2 C + O))); "position" those of one, as in the CNN, for
            sqrt(6 / (k^2 (C + O))). The published distances between filters need the former:
            weights start so small that what they learn soon outweighs where they began.
        probability: that a connection is absent for life (Sec. 4.2, App. C).
        severed: "inputs" as the published code does it, or "weights" as its text has it
            (`neurosim.nn.masked`). Neurons that lose all inputs are allowed; a warning counts them.
        rank: filter banks of a low-rank layer.
    """
    require_choice("plan", plan, PLANS)
    require_choice("connectivity", connectivity, ("conv", "local", "low-rank"))
    require_choice("fans", fans, ("layer", "position"))
    require_choice("severed", severed, ("inputs", "weights"))
    require(classes >= 1, "classes", classes, ">= 1")
    require(in_channels >= 1, "in_channels", in_channels, ">= 1")
    require(0 <= probability < 1, "probability", probability, "at least 0 and below 1")
    whole = connectivity != "low-rank" or not probability
    require(whole, "probability", probability, "0 for low-rank layers, which have no patterns")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels, size, alone = in_channels, input_size, {}
    for number, (kernel, outputs, stride) in enumerate(PLANS[plan], start=1):
        needed = f"large enough for the kernels of the {plan} network"
        require(min(size) >= kernel, "input_size", input_size, needed)
        layer = _layer(channels, outputs, kernel, stride, size, connectivity, fans)
        if probability:
            unknown = None if connectivity == "local" else size  # what a layer does not know itself
            if severed == "inputs":
                sever_inputs(layer, probability, unknown)
            else:
                sever_weights(layer, probability)
            alone[f"conv{number}"] = unconnected(layer, unknown)
        modules[f"conv{number}"] = layer
        modules[f"relu{number}"] = nn.ReLU()
        height, width = ((side - kernel) // stride + 1 for side in size)
        channels, size = outputs, (height, width)
    modules["flatten"] = nn.Flatten()
    modules["hidden"] = _xavier(nn.Linear(channels * math.prod(size), HIDDEN))
    modules["relu"] = nn.ReLU()
    modules["fc"] = _xavier(nn.Linear(HIDDEN, classes))
    if any(alone.values()):
        lost = ", ".join(f"{count} of {name}" for name, count in alone.items() if count)
        warnings.warn(
            f"with probability {probability} of absent connections, neurons have no input left: "
            f"{lost}; all that they can show is their bias",
            stacklevel=2,
        )
    network = nn.Sequential(modules)
    if connectivity == "low-rank":
        to_low_rank(network, torch.zeros(1, in_channels, *input_size), rank, inplace=True)
    return network


def _layer(
    channels: int,
    outputs: int,
    kernel: int,
    stride: int,
    size: tuple[int, int],
    connectivity: Connectivity,
    fans: Fans,
) -> nn.Conv2d | LocallyConnected2d:
    """One shared or free layer with its first weights."""
    if connectivity != "local":
        return _xavier(nn.Conv2d(channels, outputs, kernel, stride))
    taps = kernel**2

    def draw(weight: Tensor) -> None:
        positions = math.prod(weight.shape[:2])
        both = positions * (taps * channels + outputs)
        limit = math.sqrt(6 / (both if fans == "layer" else taps * (channels + outputs)))
        weight.uniform_(-limit, limit)

    layer = LocallyConnected2d(channels, outputs, kernel, size, stride, bias="position", init=draw)
    return _with_zero_bias(layer)


def _xavier(layer: Plain) -> Plain:
    nn.init.xavier_uniform_(layer.weight)
    return _with_zero_bias(layer)


@torch.no_grad()
def _with_zero_bias(layer: Layer) -> Layer:
    assert layer.bias is not None
    layer.bias.zero_()
    return layer
