"""Distortions: what each does to pixels, against scipy.ndimage and plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from neurosim.data import (
    Augment,
    EdgeNoise,
    Images,
    Loader,
    Noise,
    Rotation,
    Swap,
    Translation,
    distortion,
)
from neurosim.data.distort import KINDS
from neurosim.data.warp import warp
from neurosim.errors import InvalidArgument


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 4, height: int = 13, width: int = 16, channels: int = 2) -> Tensor:
    return torch.rand(n, height, width, channels, generator=drawn(9))


def by_scipy(image: Tensor, matrix: Tensor, shift: Tensor, order: int) -> np.ndarray:
    """Every channel by itself, in double precision, about the centre."""
    size = np.array(image.shape[:2])
    centre, a = (size - 1) / 2, matrix.double().numpy()
    offset = centre - a @ centre + shift.double().numpy()
    channels = [
        ndimage.affine_transform(channel, a, offset, order=order, mode="nearest")
        for channel in image.double().numpy().transpose(2, 0, 1)
    ]
    return np.stack(channels, -1)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 17), st.integers(2, 17), st.sampled_from([0, 1]), st.integers(0, 2**31))
def test_warp_is_scipys(height: int, width: int, order: int, seed: int) -> None:
    """Sub-pixel shifts, turns and shears, also far outside the image."""
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.random((3, height, width, 1)))
    matrix = torch.from_numpy(random.normal(size=(3, 2, 2)))
    shift = torch.from_numpy(random.normal(0, height, (3, 2)))
    found = warp(images, matrix, shift, order)  # type: ignore[arg-type]
    for got, image, a, s in zip(found, images, matrix, shift, strict=True):
        np.testing.assert_allclose(got.numpy(), by_scipy(image, a, s, order), atol=1e-9)


@pytest.mark.parametrize("order", [0, 1])
def test_single_precision_keeps_sub_pixels(order: int) -> None:
    """Shifts of MNIST's size; order 0 must choose the same pixels."""
    images = torch.rand(64, 28, 28, 1, generator=drawn(1))
    shift = 14 * torch.rand(64, 2, generator=drawn(2)) - 7
    found = warp(images, torch.eye(2), shift, order)  # type: ignore[arg-type]
    for got, image, by in zip(found, images, shift, strict=True):
        np.testing.assert_allclose(got, by_scipy(image, torch.eye(2), by, order), atol=2e-5)


def test_a_whole_shift_moves_pixels_and_repeats_the_border() -> None:
    image = torch.arange(20.0).view(1, 4, 5, 1)
    moved = warp(image, torch.eye(2), torch.tensor([1.0, -2.0]), 1)[0, ..., 0]
    expected = image[0, ..., 0][[1, 2, 3, 3]][:, [0, 0, 0, 1, 2]]
    torch.testing.assert_close(moved, expected)


def ramps(n: int, size: int) -> Tensor:
    """Images whose two channels are the row and the column."""
    row = torch.arange(float(size)).view(1, size, 1, 1).expand(n, size, size, 1)
    return torch.cat([row, row.transpose(1, 2)], -1)


def test_shifts_are_independent_uniform_and_continuous() -> None:
    n, size, strength = 4000, 21, 0.3
    moved = Translation(strength)(ramps(n, size), drawn())
    shift = moved[:, 10, 10] - 10  # the centre never meets the border
    reach = strength * size
    assert shift.abs().max() < reach
    quantiles = torch.quantile(shift, torch.linspace(0.1, 0.9, 9), dim=0) / reach
    torch.testing.assert_close(
        quantiles, torch.linspace(-0.8, 0.8, 9)[:, None].expand(9, 2), atol=0.05, rtol=0
    )
    assert abs(float(torch.corrcoef(shift.T)[0, 1])) < 0.05
    assert len(shift[:, 0].unique()) > n * 0.99


def test_angles_are_uniform_within_their_share_of_a_turn() -> None:
    n, size = 3000, 21
    moved = Rotation(0.125)(ramps(n, size), drawn())
    seen = moved[:, 10, 15] - 10  # what lies at 5 to the right came from there
    angle = torch.atan2(seen[:, 0], seen[:, 1]).rad2deg()
    torch.testing.assert_close(seen.norm(dim=1), torch.full((n,), 5.0), atol=1e-3, rtol=0)
    assert angle.abs().max() <= 45.01
    torch.testing.assert_close(
        torch.quantile(angle, torch.tensor([0.25, 0.5, 0.75])),
        torch.tensor([-22.5, 0.0, 22.5]), atol=1.5, rtol=0,
    )  # fmt: skip


def test_noise_is_gaussian_and_not_clipped() -> None:
    images = torch.full((50, 28, 28, 1), 0.95)
    noise = Noise(0.4)(images, drawn()) - images
    assert abs(float(noise.std()) - 0.4) < 0.01
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.max()) + 0.95 > 1.5
    beyond = float((noise.abs() > 0.8).float().mean())
    assert abs(beyond - 0.0455) < 0.005  # two standard deviations


@pytest.mark.parametrize("size", [(11, 14), (28, 28)])
def test_edge_noise_of_the_text_fills_the_frame(size: tuple[int, int]) -> None:
    images = torch.zeros(12, *size, 3)
    touched = EdgeNoise(0.5)(images, drawn()) != 0
    frame = torch.ones(size, dtype=torch.bool)
    frame[5 : size[0] - 5, 5 : size[1] - 5] = False
    assert torch.equal(touched, frame[None, :, :, None].expand_as(touched))


@pytest.mark.parametrize("n", [3, 10, 12, 256])
def test_edge_noise_of_the_code_is_numpys_slice(n: int) -> None:
    """As a batch of numpy is cut by [5:-5, 5:-5, :]."""
    touched = EdgeNoise(0.5, published=True)(torch.zeros(n, 12, 13, 2), drawn()).numpy() != 0
    expected = np.ones((n, 12, 13, 2), bool)
    expected[5:-5, 5:-5, :] = False
    np.testing.assert_array_equal(touched, expected)


@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_swap_exchanges_two_quadrants(size: tuple[int, int]) -> None:
    images = pictures(2, *size)
    swapped, high, wide = Swap()(images, drawn()), size[0] // 2, size[1] // 2
    right, left = slice(size[1] - wide, None), slice(0, wide)
    top, bottom = slice(0, high), slice(size[0] - high, None)
    assert torch.equal(swapped[:, top, right], images[:, bottom, left])
    assert torch.equal(swapped[:, bottom, left], images[:, top, right])
    assert torch.equal(swapped[:, top, left], images[:, top, left])
    assert torch.equal(swapped[:, bottom, right], images[:, bottom, right])
    assert torch.equal(Swap()(swapped, drawn()), images)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "swap"])
def test_strength_0_and_seeds(kind: str) -> None:
    images = pictures()
    before = images.clone()
    assert torch.equal(distortion(f"{kind}:0")(images, drawn()), images)
    strong = distortion(f"{kind}:0.9")
    first, second = strong(images, drawn(3)), strong(images, drawn(3))
    assert torch.equal(first, second)
    assert not torch.equal(first, strong(images, drawn(4)))
    assert torch.equal(images, before)


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_back(kind: str) -> None:
    text = kind if kind == "swap" else f"{kind}:0.25"
    assert str(distortion(text)) == text
    assert distortion(str(distortion(text))) == distortion(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("translation:1", "strength of translation must be at least 0 and below 1, got 1.0"),
        ("noise:-0.1", "below 1, got -0.1"),
        ("rotation:nan", "strength of rotation"),
        ("translatoin:0.1", "did you mean 'translation'?"),
        ("noise", "KIND:STRENGTH, such as noise:0.2, got 'noise'"),
        ("noise:much", "got 'noise:much'"),
        ("swap:0.1", "strength of swap must be left out"),
    ],
)
def test_bad_descriptions(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message.replace("?", r"\?")):
        distortion(text)


def test_images_smaller_than_the_frame() -> None:
    with pytest.raises(InvalidArgument, match="larger than the frame, 11 pixels or more, got '10"):
        EdgeNoise(0.1).check((10, 28))
    with pytest.raises(InvalidArgument, match="frame"):
        loader(Augment(distortion=EdgeNoise(0.1)), size=10)
    with pytest.raises(InvalidArgument, match="pad must be 0 for images with translation"):
        Augment(pad=2, distortion=Translation(0.2))
    with pytest.raises(InvalidArgument, match="order must be 0 or 1"):
        distortion("rotation:0.1", order=3)


def loader(augment: Augment, *, size: int = 12, seed: int = 0, mean: float = 0.3) -> Loader:
    images = torch.randint(256, (10, size, size, 1), dtype=torch.uint8, generator=drawn(5))
    split = Images(images, torch.arange(10))
    return Loader(split, 4, mean=[mean], std=[0.5], augment=augment, seed=seed)


def test_a_loader_distorts_pixels_in_their_own_units() -> None:
    """Strengths are those of pixels in [0, 1], whatever the normalisation; outside is the border,
    not the mean."""
    plain = torch.cat([x for x, _ in loader(Augment()).epoch(0)])
    noisy = torch.cat([x for x, _ in loader(Augment(distortion=Noise(0.2))).epoch(0)])
    assert abs(float((noisy - plain).std()) - 0.2 / 0.5) < 0.02
    away = Translation(0.99)
    moved = torch.cat([x for x, _ in loader(Augment(distortion=away)).epoch(0)])
    assert plain.min() - 1e-4 <= moved.min()
    assert moved.max() <= plain.max() + 1e-4
    swapped = torch.cat([x for x, _ in loader(Augment(distortion=Swap())).epoch(0)])
    torch.testing.assert_close(swapped[:, :, :6, 6:], plain[:, :, 6:, :6])


def test_batches_are_functions_of_seed_epoch_and_number() -> None:
    moving = Augment(distortion=Translation(0.3))
    batches = [x for x, _ in loader(moving).epoch(1)]
    again = [x for x, _ in loader(moving).epoch(1, start=1)]
    for one, other in zip(batches[1:], again, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batches[0], next(iter(loader(moving).epoch(2)))[0])
    assert not torch.equal(batches[0], next(iter(loader(moving, seed=1).epoch(1)))[0])
