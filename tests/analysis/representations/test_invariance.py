"""Translation indices of layers whose answer to a shift is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from analysis.representations.invariance import translate, translation_indices
from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d

IMAGES = np.random.default_rng(0).standard_normal((20, 3, 16, 16)).astype(np.float32)


def layer(module: nn.Module):
    """As a function of arrays."""

    def answer(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return answer


def conv(stride: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 8, 3, stride, padding=1, padding_mode="circular")


def test_a_convolution_is_equivariant_and_not_invariant() -> None:
    (found,) = translation_indices(layer(conv()), IMAGES, [(2, -3)])
    assert found.equivariance == pytest.approx(1, abs=1e-9)
    assert found.invariance < 0.2


def test_a_global_average_of_it_is_invariant() -> None:
    pooled = nn.Sequential(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    for found in translation_indices(layer(pooled), IMAGES, [(1, 0), (5, 7)]):
        assert found.invariance == pytest.approx(1, abs=1e-9)


def test_a_strided_convolution_is_equivariant_to_its_stride_only() -> None:
    one, two = translation_indices(layer(conv(2)), IMAGES, [(0, 1), (0, 2)])
    assert np.isnan(one.equivariance)
    assert two.equivariance == pytest.approx(1, abs=1e-9)


def test_filters_of_their_own_are_not_equivariant() -> None:
    torch.manual_seed(1)
    local = LocallyConnected2d(3, 8, 3, 16, 1, 1)
    (found,) = translation_indices(layer(local), IMAGES, [(0, 3)], margin=1)
    assert abs(found.equivariance) < 0.05


def test_an_edge_is_left_out_where_a_shift_brings_it_in() -> None:
    """Zero padding and edges of the image: only the interior follows."""
    torch.manual_seed(0)
    padded = nn.Conv2d(3, 8, 3, padding=1)
    (with_edge,) = translation_indices(layer(padded), IMAGES, [(3, 2)], fill="edge")
    (inside,) = translation_indices(layer(padded), IMAGES, [(3, 2)], fill="edge", margin=1)
    assert with_edge.equivariance < 0.99 < inside.equivariance


def test_the_index_is_the_ratio_of_mean_distances() -> None:
    """Written out over all pairs of images."""
    module = layer(nn.Sequential(conv(), nn.ReLU()))
    still, moved = module(IMAGES), module(translate(IMAGES, (0, 1)))
    distances = ((moved[:, None] - still) ** 2).sum((2, 3, 4))
    same, others = np.diag(distances).mean(), distances[~np.eye(20, dtype=bool)].mean()
    (found,) = translation_indices(module, IMAGES, [(0, 1)])
    assert found.invariance == pytest.approx(1 - same / others, rel=1e-5)


def test_translate() -> None:
    image = np.arange(12).reshape(3, 4)
    assert translate(image, (1, 0))[1:].tolist() == image[:-1].tolist()
    assert translate(image, (0, -1), "edge").tolist() == image[:, [1, 2, 3, 3]].tolist()
    assert translate(translate(image, (2, 3)), (-2, -3)).tolist() == image.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: translation_indices(f, IMAGES[:1], [(0, 1)]), "2 or more"),
        (lambda f: translation_indices(f, IMAGES, [(0, 16)]), "shift must be within"),
        (lambda f: translation_indices(f, IMAGES, [(0, 1)], fill="zero"), "fill must be one of"),
        (lambda f: translation_indices(f, IMAGES, [(0, 1)], margin=8), "leave nothing"),
        (lambda f: translation_indices(lambda x: np.ones((20, 3)), IMAGES, [(0, 1)]), "apart"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(layer(conv()))
