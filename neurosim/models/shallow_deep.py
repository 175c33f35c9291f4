"""S-CONV, D-CONV and their relatives (Neyshabur 2020, Sec. 2.1): networks to study convolution by.

All-convolutional networks without pooling or shortcuts, so that what locality and sharing do can
be told from everything else. Their locally connected and fully connected relatives are conversions
of them: `connectivity="local"` gives S-LOCAL and D-LOCAL, "dense" gives S-FC and D-FC, whose batch
norm is of every unit by itself. 3-FC has two equally wide hidden layers.

alpha is the number of channels of the first layer. Batch norm and ReLU follow every layer but the
last; layers before a norm have no bias.

Parameters at 32x32 pixels, 3 channels, 10 classes, in millions, weights and all:

    alpha = 150   S-CONV 138.3   S-LOCAL 147.6   S-FC 256.3      published 138    147    256
    alpha = 15    D-CONV 1.45    D-LOCAL 11.7    D-FC 282        published 1.45   3.42   256

The published D-LOCAL and D-FC are not those of the published D-CONV: no alpha gives all three.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from neurosim.errors import require
from neurosim.models.connect import Connectivity, connect
from neurosim.models.size import image_size
from neurosim.nn.convert import Init, Skip

WIDTH = 14_539
"""Units of both hidden layers of the 3-FC with 256 million parameters at 32x32 pixels."""

DEEP = ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2))
"""D-CONV's layers: channels as multiples of alpha, and strides."""


def shallow(
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    alpha: int = 150,
    kernel_size: int = 9,
    *,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
) -> nn.Module:
    """S-CONV, S-LOCAL or S-FC: one such layer of stride 2, then 24 alpha units, then the classes.

    Args:
        classes: number of outputs.
        connectivity: "conv", "local" or "dense".
        input_size: of the images.
        in_channels: of the images.
        alpha: channels of the first layer.
        kernel_size: of the first layer; 9 in the paper.
        skip: layers that stay convolutional, as for `resnet`.
        init: with "local" and "dense", how filters start: independent, or "copy".
    """
    layers = [(alpha, kernel_size, 2)]
    return _network(layers, 24 * alpha, classes, connectivity, input_size, in_channels, skip, init)


def deep(
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    alpha: int = 15,
    *,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
) -> nn.Module:
    """D-CONV, D-LOCAL or D-FC: eight 3x3 layers, then 64 alpha units; arguments as `shallow`'s."""
    layers = [(alpha * times, 3, stride) for times, stride in DEEP]
    return _network(layers, 64 * alpha, classes, connectivity, input_size, in_channels, skip, init)


def perceptron(
    classes: int = 10,
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    width: int = WIDTH,
) -> nn.Module:
    """3-FC: two hidden layers of equal width."""
    require(width >= 1, "width", width, ">= 1")
    sides = image_size(input_size)
    units = [in_channels * sides[0] * sides[1], width, width]
    modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (inputs, outputs) in enumerate(pairwise(units), start=1):
        modules |= _linear(number, inputs, outputs)
    modules["fc"] = _drawn(nn.Linear(width, classes))
    return nn.Sequential(modules)


def _network(
    layers: Sequence[tuple[int, int, int]],
    hidden: int,
    classes: int,
    connectivity: Connectivity,
    input_size: int | tuple[int, int],
    in_channels: int,
    skip: Skip | Sequence[Skip],
    init: Init,
) -> nn.Module:
    """Layers (channels, kernel, stride), a hidden layer and a classifier."""
    require(layers[0][0] >= 1, "alpha", layers[0][0], ">= 1")
    kernel = layers[0][1]
    require(kernel >= 1, "kernel_size", kernel, ">= 1")
    require(classes >= 1, "classes", classes, ">= 1")
    require(in_channels >= 1, "in_channels", in_channels, ">= 1")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, sides = in_channels, image_size(input_size)
    for number, (outputs, kernel, stride) in enumerate(layers, start=1):
        padding = (kernel - 1) // 2
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        modules[f"conv{number}"] = _drawn(conv)
        modules[f"norm{number}"] = nn.BatchNorm2d(outputs)
        modules[f"relu{number}"] = nn.ReLU(inplace=True)
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in sides)
        inputs, sides = outputs, (height, width)
    modules["flatten"] = nn.Flatten()
    modules |= _linear(len(layers) + 1, inputs * sides[0] * sides[1], hidden)
    modules["fc"] = _drawn(nn.Linear(hidden, classes))
    return connect(nn.Sequential(modules), connectivity, input_size, in_channels, skip, init=init)


def _linear(number: int, inputs: int, outputs: int) -> dict[str, nn.Module]:
    """A fully connected layer, its norm and its nonlinearity."""
    return {
        f"linear{number}": _drawn(nn.Linear(inputs, outputs, bias=False)),
        f"norm{number}": nn.BatchNorm1d(outputs),
        f"relu{number}": nn.ReLU(inplace=True),
    }


def _drawn(layer: nn.Module) -> nn.Module:
    """Kaiming normal with fan-in and ReLU gain, which a threshold on weights counts on."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
    return layer
