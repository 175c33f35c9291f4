"""The network of Elsayed et al. 2020 (Sec. 4), low-rank local at a depth of one's choice.

Three layers of 64 channels with 3x3 filters and no padding, each with batch norm and ReLU, global
average pooling and a linear classifier; and the baselines of its Tables 1 to 3.

All kernels are drawn He-uniform. (The published locally connected layer counts all positions into
the fan-in, which makes its first weights smaller; batch norm removes their scale from the output.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurosim.errors import require, require_choice
from neurosim.models.size import image_size
from neurosim.nn import LocallyConnected2d, LowRankLocal2d
from neurosim.nn.combine import CombiningInit, Normalisation, Sharing

Layer = Literal["conv", "fc", "coord", "bias", "low-rank", "input-dependent", "wide", "local"]
Depth = Literal["1", "2", "3", "all"]

LAYERS = ("conv", "fc", "coord", "bias", "low-rank", "input-dependent", "wide", "local")
WHOLE = ("conv", "fc", "coord")  # baselines that are the same at any depth
DEPTHS = ("1", "2", "3", "all")


class Coordinates(nn.Module):
    """CoordConv (Liu et al. 2018): two more channels, the row and the column from -1 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + 2, H, W)."""
        ends = (torch.linspace(-1, 1, side, device=x.device, dtype=x.dtype) for side in x.shape[2:])
        places = torch.stack(torch.meshgrid(*ends, indexing="ij"))
        return torch.cat([x, places.expand(len(x), -1, -1, -1)], 1)


def wide_channels(rank: int, inputs: int, outputs: int, *, last: bool) -> int:
    """Channels of a convolution with as many parameters as a low-rank layer of this rank.

    A layer with n outputs has inputs n weights per tap, and the one above it n outputs; K inputs
    outputs + outputs^2 of a low-rank layer and the one above it make

        n = (K inputs + outputs) / (inputs + outputs) outputs,    of the last layer n = K outputs
    """
    if last:
        return rank * outputs
    return int((rank * inputs + outputs) / (inputs + outputs) * outputs)


def lrlc(
    classes: int = 10,
    layer: Layer = "low-rank",
    depth: Depth = "3",
    rank: int = 2,
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    channels: Sequence[int] = (64, 64, 64),
    *,
    sharing: Sharing | None = None,
    normalisation: Normalisation = "softmax",
    init: CombiningInit = "conv",
) -> nn.Module:
    """The published network with layers of one kind at one depth, and convolutions elsewhere.

    Args:
        classes: number of outputs.
        layer: "low-rank" with fixed or "input-dependent" combining weights; "bias", a convolution
            with a spatial bias (rank 1); "wide", a convolution with as many parameters as a
            low-rank layer of this rank; "local", locally connected with a bias per position and
            channel; or a whole network of convolutions, whatever the depth: "conv", "fc" with a
            fully connected head instead of pooling, "coord" with coordinates at its input.
        depth: the layer that is of this kind, counted from the input, or "all".
        rank: K, of low-rank and wide layers.
        input_size: of the images; the network can take no others.
        in_channels: of the images.
        channels: of the three layers.
        sharing: of fixed combining weights, as for `LowRankLocal2d`.
        normalisation: of combining weights.
        init: of fixed combining weights.
    """
    require_choice("layer", layer, LAYERS)
    require_choice("depth", depth, DEPTHS)
    require(classes >= 1, "classes", classes, ">= 1")
    require(rank >= 1, "rank", rank, ">= 1")
    size = image_size(input_size)
    least = 2 * len(channels) + 1
    require(min(size) >= least, "input_size", input_size, f">= {least}, as layers do not pad")

    def chosen(inputs: int, outputs: int, seen: tuple[int, int], *, last: bool) -> Any:
        if layer == "local":
            local = LocallyConnected2d(inputs, outputs, 3, seen, bias="position", init=_he_uniform)
            nn.init.zeros_(local.bias)  # type: ignore[arg-type]
            return local
        if layer == "wide":
            return _convolution(inputs, wide_channels(rank, inputs, outputs, last=last))
        banks = 1 if layer == "bias" else rank
        return LowRankLocal2d(
            inputs, outputs, 3, seen, banks, bias=False, sharing=sharing,
            normalisation=normalisation, init=init, input_dependent=layer == "input-dependent",
        )  # fmt: skip

    modules: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = in_channels
    if layer == "coord":
        modules["coordinates"] = Coordinates()
        inputs += 2
    for number, outputs in enumerate(channels, start=1):
        if layer not in WHOLE and depth in (str(number), "all"):
            made: Any = chosen(inputs, outputs, size, last=number == len(channels))
        else:
            made = _convolution(inputs, outputs)
        inputs = int(made.out_channels)
        size = (size[0] - 2, size[1] - 2)
        modules[f"conv{number}"] = made
        modules[f"bn{number}"] = nn.BatchNorm2d(inputs)
        modules[f"relu{number}"] = nn.ReLU(inplace=True)
    if layer == "fc":
        inputs *= size[0] * size[1]
    else:
        modules["avgpool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["fc"] = _classifier(inputs, classes)
    return nn.Sequential(modules)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 3, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, nonlinearity="relu")
    return convolution


def _classifier(inputs: int, classes: int) -> nn.Linear:
    """Glorot-uniform with biases of 0, as Keras draws it."""
    linear = nn.Linear(inputs, classes)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


@torch.no_grad()
def _he_uniform(weight: Tensor) -> None:
    """Of filters (H', W', O, C, kh, kw), each by its own fan-in."""
    bound = (6 / weight[0, 0, 0].numel()) ** 0.5
    weight.uniform_(-bound, bound)
