"""A small network without strides, for demonstrations: sharing helps it as it should.

With strides on a small map the grids of deep layers are equivariant to large shifts only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from neurosim.errors import require
from neurosim.models.connect import Connectivity, connect
from neurosim.nn.convert import Init, Skip


def simple(
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 16,
    in_channels: int = 1,
    channels: Sequence[int] = (8, 16, 16),
    *,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
) -> nn.Module:
    """3x3 layers with batch norm and ReLU, the mean over all positions, a classifier.

    Arguments as for `resnet`; `channels` are those of the layers.
    """
    require(len(channels) >= 1 and min(channels) >= 1, "channels", channels, "one or more, >= 1")
    require(classes >= 1, "classes", classes, ">= 1")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = in_channels
    for number, outputs in enumerate(channels, start=1):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        modules[f"conv{number}"] = convolution
        modules[f"bn{number}"] = nn.BatchNorm2d(outputs)
        modules[f"relu{number}"] = nn.ReLU(inplace=True)
        inputs = outputs
    modules["avgpool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["fc"] = nn.Linear(inputs, classes)
    return connect(nn.Sequential(modules), connectivity, input_size, in_channels, skip, init=init)
