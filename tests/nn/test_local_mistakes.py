"""Mistakes with the layers are one clear sentence."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from local_layers import Layer, convolution_like, layer_of

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d

X = torch.zeros(2, 4, 6, 5)


def make(**arguments: Any) -> Layer:
    return layer_of((6, 5), **({"dtype": torch.float32} | arguments))


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "other input size": (
        lambda: make()(torch.zeros(2, 4, 5, 6)),
        r"input of LocallyConnected2d must be of shape \(4, 6, 5\), .* got \(2, 4, 5, 6\)",
    ),
    "other channels": (lambda: make()(X[:, :3]), r"\(4, 6, 5\), .* got \(2, 3, 6, 5\)"),
    "an axis too few": (lambda: make()(X[0, 0]), r"got \(6, 5\)"),
    "an axis too many": (lambda: make()(X[None]), r"got \(1, 2, 4, 6, 5\)"),
    "1d input of another size": (
        lambda: layer_of((7,))(torch.zeros(1, 4, 8)), r"of LocallyConnected1d .*\(4, 7\), .* 8\)",
    ),
    "whole numbers as input": (lambda: make()(X.long()), "dtype torch.float32, got torch.int64"),
    "input of another dtype": (lambda: make()(X.double()), "torch.float32, got torch.float64"),
    "whole numbers as weights": (
        lambda: make(dtype=torch.int64), "dtype must be one of float64, .* got torch.int64",
    ),
    "complex weights": (lambda: make(dtype=torch.complex64), "dtype must be one of .*complex64"),
    "turned complex": (
        lambda: make().to(torch.complex64)(X.to(torch.complex64)), "dtype must be one of .*complex",
    ),
    "channels not divisible": (
        lambda: make(channels=5, groups=2), "in_channels must be divisible by groups = 2, got 5",
    ),
    "outputs not divisible": (
        lambda: make(outputs=5, groups=2), "out_channels must be divisible by groups = 2, got 5",
    ),
    "groups 0": (lambda: make(groups=0), "groups must be a whole number >= 1, got 0"),
    "groups 1.5": (lambda: make(groups=1.5), "groups must be a whole number >= 1, got 1.5"),
    "no channels": (lambda: make(channels=0), "in_channels must be a whole number >= 1, got 0"),
    "channels a word": (lambda: make(outputs="8"), "out_channels must be a whole number .*'8'"),
    "kernel larger than the input": (
        lambda: make(kernel_size=7, padding=(1, 0)),
        r"kernel_size \(7, 7\) with dilation \(1, 1\) must fit the padded input of size \(8, 5\)",
    ),
    "dilated kernel larger": (lambda: make(dilation=3), r"dilation \(3, 3\) must fit"),
    "kernel 0": (lambda: make(kernel_size=0), "kernel_size must be a whole number >= 1, .* got 0"),
    "kernel 2.5": (lambda: make(kernel_size=2.5), "kernel_size must be a whole number .*got 2.5"),
    "kernel of three axes": (lambda: make(kernel_size=(3, 3, 3)), r"or 2 of them, got \(3, 3, 3\)"),
    "input size of one axis": (
        lambda: LocallyConnected2d(4, 8, 3, (6,)), r"input_size must be .*of them, got \(6,\)",
    ),
    "stride 0": (lambda: make(stride=(1, 0)), r"stride must be .* got \(1, 0\)"),
    "dilation -1": (lambda: make(dilation=-1), "dilation must be .* got -1"),
    "padding -1": (lambda: make(padding=-1), '"same", "valid", a whole number >= 0 .* got -1'),
    "padding 0.5": (lambda: make(padding=0.5), "padding must be .* got 0.5"),
    "padding a word": (lambda: make(padding="full"), "padding must be .* got 'full'"),
    "stride with same": (
        lambda: make(padding="same", stride=(1, 2)), r'stride must be 1 .*"same", got \(1, 2\)',
    ),
    "reflect beyond the input": (
        lambda: make(padding=(1, 5), padding_mode="reflect"),
        r'padding must be at most \(5, 4\) for padding_mode "reflect", got \(1, 5\)',
    ),
    "same, reflected beyond": (
        lambda: make(kernel_size=(1, 2), dilation=(1, 9), padding="same", padding_mode="reflect"),
        r'padding must be at most \(5, 4\) .*got "same", which is \(0, 5\)',
    ),
    "circular beyond the input": (
        lambda: make(padding=(7, 1), padding_mode="circular"),
        r'padding must be at most \(6, 5\) for padding_mode "circular", got \(7, 1\)',
    ),
    "unknown padding mode": (
        lambda: make(padding_mode="zero"), "padding_mode must be one of .*did you mean 'zeros'",
    ),
    "unknown backend": (lambda: make(backend="matmull"), "backend must be one of auto.*'matmul'"),
    "bias a word": (lambda: make(bias="channel"), 'bias must be True, False or "position", got'),
    "unknown init": (lambda: make(init="kaiming"), 'init must be "independent", a .* got \'kaim'),
    "noise below 0": (lambda: make(init=-0.1), "init must be .* >= 0 or a callable, got -0.1"),
    "noise NaN": (lambda: make(init=float("nan")), "init must be .* got nan"),
    "noise infinite": (lambda: make(init=float("inf")), "init must be .* got inf"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_sentence(mistake: str) -> None:
    attempt, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message) as info:
        attempt()
    assert "\n" not in str(info.value)


def test_numbers_of_numpy_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    layer = make(kernel_size=numpy.int64(3), padding=(numpy.int32(1), 0))
    assert layer(X).shape == (2, 8, 6, 3)
    assert pickle.loads(pickle.dumps(layer)).kernel_size == (3, 3)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_largest_padding_of_every_mode(mode: str) -> None:
    """What the check allows, torch can do."""
    padding = (5, 4) if mode == "reflect" else (6, 5)
    layer = make(padding=padding, padding_mode=mode)
    convolution = convolution_like(layer, kernel_size=3, padding=padding, padding_mode=mode)
    torch.testing.assert_close(layer(X + 1), convolution(X + 1))
