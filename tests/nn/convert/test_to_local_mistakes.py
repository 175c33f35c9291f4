"""Models that cannot be converted are refused in one sentence, and left as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from convertible import separable, small, to_conv, to_local
from torch import nn
from torch.nn.utils import parametrizations

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = small()
        self.spare = small()

    def forward(self, x):
        return self.conv(self.conv(x))


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def sharing():
    model = nn.Sequential(small(), small(padding=2))
    model[1].weight = model[0].weight
    return model


def replaced():
    model: Any = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU())
    model[0].forward = lambda x: x
    return model


def chain(*modules):
    return nn.Sequential(nn.Identity(), *modules)


MISTAKES = {
    "two sizes": (
        lambda: to_local(Twice(), 8, skip="spare"),
        r"layer 'conv' must be used at exactly one input size, got \(8, 8\) and \(6, 6\); name it",
    ),
    "never reached": (
        lambda: to_local(Twice(), 8, skip="conv"),
        r"layer 'spare' must be used at exactly one input size, got no input from the example;",
    ),
    "transposed": (
        lambda: to_local(chain(small(), nn.ConvTranspose2d(2, 2, 3)), 8),
        r"layer '2' must be a Conv1d, Conv2d or Conv3d, got ConvTranspose2d",
    ),
    "lazy": (
        lambda: to_local(chain(nn.LazyConv2d(2, 3)), (1, 2, 8, 8)),
        "layer '1' must know its shape, got LazyConv2d: run the model once",
    ),
    "computed weight": (
        lambda: to_local(chain(parametrizations.weight_norm(small())), 8),
        "layer '1' must have its weight as a parameter, got one that is computed",
    ),
    "tied weight": (
        lambda: to_local(sharing(), 8),
        "layer '0' must have a weight of its own, got the one of layer '1'",
    ),
    "another forward": (
        lambda: to_local(chain(Scaled(2, 2, 3)), 8),
        "layer '1' must compute as Conv2d, got Scaled with a forward of its own",
    ),
    "replaced forward": (lambda: to_local(replaced(), 8), "layer '0' must compute as Conv2d"),
    "reflected too far": (
        lambda: to_local(chain(small(padding=4, padding_mode="reflect")), 4),
        r"layer '1' must be able to take an input of size \(4, 4\), got: .*[Pp]adding",
    ),
    "wrapped around twice": (
        lambda: to_local(chain(small(padding=5, padding_mode="circular")), 4),
        r"layer '1' must be able to take an input of size \(4, 4\), got: .*[Pp]adding",
    ),
    "kernel too large": (
        lambda: to_local(chain(small()), (2, 9)),
        r"layer '1' must be able to take an input of size \(2, 9\), got: .*[Kk]ernel",
    ),
    "the model fails elsewhere": (
        lambda: to_local(chain(small(), nn.Flatten(), nn.Linear(3, 2)), 8),
        r"the model must be able to take an example \(1, 2, 8, 8\), got: mat1",
    ),
    "complex numbers": (
        lambda: to_local(chain(small(dtype=torch.complex64)), 8),
        "layer '1' cannot be local: dtype must be .*complex64",
    ),
    "no convolution": (
        lambda: to_local(nn.Linear(2, 2), 8),
        "model must contain a convolution, got Linear",
    ),
    "nothing local": (
        lambda: to_conv(small()),
        "model must contain a locally connected layer, got Conv2d",
    ),
    "size of other axes": (lambda: to_local(small(), (8, 8, 8)), r"example must be .*\(8, 8, 8\)"),
    "size zero": (lambda: to_local(small(), 0), "example must be a tensor, .* got 0"),
    "no arguments": (lambda: to_local(small(), ()), r"example must be .* got \(\)"),
    "unknown init": (lambda: to_local(small(), 8, init="zero"), "init must be .* got 'zero'"),
    "negative noise": (lambda: to_local(small(), 8, init=-0.1), "init must be .* got -0.1"),
    "NaN as noise": (lambda: to_local(small(), 8, init=float("nan")), "init must be .* got nan"),
    "init True": (lambda: to_local(small(), 8, init=True), "init must be .* got True"),
    "unknown backend": (lambda: to_local(small(), 8, backend="gpu"), "backend must be one of"),
    "count too large": (lambda: to_local(small(), 8, skip=2), "skip must be from 0 to 1, got 2"),
    "negative count": (lambda: to_local(small(), 8, skip=-1), "skip must be from 0 to 1, got -1"),
    "no such name": (
        lambda: to_local(separable(), 9, skip="steem"),
        r"skip must be a pattern that some convolution matches \(stem, depthwise, pointwise, ...\)",
    ),
    "skip True": (lambda: to_local(small(), 8, skip=True), "skip must be a count, .* got True"),
    "skip a half": (lambda: to_local(small(), 8, skip=[0.5]), "skip must be a count, .* got 0.5"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_layers_say_their_name_in_errors():
    local = to_local(separable(), 9)
    local.stem = nn.Conv2d(3, 6, 1)
    with pytest.raises(InvalidArgument, match=r"layer 'depthwise' \(LocallyConnected2d\) must be"):
        local(torch.zeros(1, 3, 9, 9))
    message = "layer 'block.expand' .* must have the weight's dtype"
    with pytest.raises(InvalidArgument, match=message):
        local.block.expand.double()(torch.zeros(1, 4, 3, 5))


def test_a_local_layer_that_computes_otherwise_is_not_averaged():
    class Other(LocallyConnected2d):
        def forward(self, x):
            return -super().forward(x)

    with pytest.raises(InvalidArgument, match="layer '1' must compute as LocallyConnected2d"):
        to_conv(chain(Other(2, 2, 3, 8)))


def test_a_refused_model_is_untouched():
    model = chain(small(), nn.ConvTranspose2d(2, 2, 3))
    with pytest.raises(InvalidArgument):
        to_local(model, 8, inplace=True)
    assert isinstance(model[1], nn.Conv2d)
    assert model.training
