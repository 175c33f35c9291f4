"""Batches are a pure function of seed, epoch and number, and what the settings say they are."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim.data import Augment, Images, Loader, load
from neurosim.errors import InvalidArgument

Batches = list[tuple[Tensor, Tensor]]


def split(count: int, height: int = 6, width: int = 5, channels: int = 2) -> Images:
    """Random images, all different, whose labels are their numbers."""
    random = torch.Generator().manual_seed(count)
    size = (count, height, width, channels)
    images = torch.randint(256, size, dtype=torch.uint8, generator=random)
    return Images(images, torch.arange(count))


def loader(images: Images, batch_size: int = 8, **arguments: Any) -> Loader:
    channels = images.channels
    defaults = {"mean": [0.4, 0.6, 0.5][:channels], "std": [0.2, 0.3, 0.25][:channels]}
    return Loader(images, batch_size, **(defaults | arguments))


def normalised(images: Images) -> np.ndarray:
    """All images as they should reach a network when nothing else happens to them, (N, C, H, W)."""
    mean, std = np.array([0.4, 0.6, 0.5]), np.array([0.2, 0.3, 0.25])
    channels = images.channels
    x = (images.images.numpy() / 255 - mean[:channels]) / std[:channels]
    return x.transpose(0, 3, 1, 2)


def same(first: Batches, second: Batches) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


def augments(largest: int = 4) -> st.SearchStrategy[Augment]:
    return st.builds(
        Augment,
        pad=st.integers(0, largest),
        flip=st.booleans(),
        repetitions=st.sampled_from([1, 2, 4]),
        center_crop=st.sampled_from([None, 3]),
    )


@settings(deadline=None)
@given(
    st.integers(1, 30), augments(), st.integers(0, 2**40), st.integers(0, 1000), st.data(),
    st.booleans(),
)  # fmt: skip
def test_an_epoch_goes_on_where_it_stopped(
    count: int, augment: Augment, seed: int, epoch: int, draw: st.DataObject, shuffle: bool
) -> None:
    """Bit for bit, from a new loader that has not seen what came before."""
    images = split(count)
    new = lambda: loader(images, 8, augment=augment, seed=seed, shuffle=shuffle)  # noqa: E731
    whole = list(new().epoch(epoch))
    start = draw.draw(st.integers(0, len(whole)))
    other = new()
    list(other.epoch(epoch + 1))
    assert same(whole[start:], list(other.epoch(epoch, start)))
    assert len(whole) == len(other)


@settings(deadline=None)
@given(st.integers(1, 30), augments(), st.integers(1, 5), st.integers(0, 3))
def test_ranks_share_out_every_batch(count: int, augment: Augment, world: int, epoch: int) -> None:
    images = split(count)
    arguments = {"augment": augment, "shuffle": True, "world": world}
    last = (count - 1) % (8 // augment.repetitions) + 1
    if last * augment.repetitions < world:
        with pytest.raises(InvalidArgument, match="has a row for each of"):
            loader(images, 8, **arguments)
        return
    whole = list(loader(images, 8, augment=augment, shuffle=True).epoch(epoch))
    shares = [list(loader(images, 8, rank=rank, **arguments).epoch(epoch)) for rank in range(world)]
    together = [
        (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))
        for parts in zip(*shares, strict=True)
    ]
    assert same(whole, together)
    for parts in zip(*shares, strict=True):
        sizes = [len(y) for _, y in parts]
        assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(st.integers(1, 40), augments())
def test_an_epoch_is_one_pass_over_the_images(count: int, augment: Augment) -> None:
    batches = list(loader(split(count), 8, augment=augment, shuffle=True).epoch(0))
    for _, labels in batches:  # every image of a batch as often as it is repeated
        assert set(Counter(labels.tolist()).values()) == {augment.repetitions}
    seen = Counter(label for _, labels in batches for label in labels.tolist())
    assert seen == dict.fromkeys(range(count), augment.repetitions)
    assert all(len(labels) == 8 for _, labels in batches[:-1])


def test_batches_per_epoch() -> None:
    images = split(50_000, 1, 1, 1)
    assert len(loader(images, 512)) == 98
    repeated = loader(images, 512, augment=Augment(repetitions=16), shuffle=True)
    assert len(repeated) == math.ceil(50_000 / 32)
    (_, first), (_, last) = next(repeated.epoch(0)), next(repeated.epoch(0, len(repeated) - 1))
    assert (len(first), len(first.unique())) == (512, 32)
    assert (len(last), len(last.unique())) == (256, 16)


def test_without_settings_images_come_in_order_and_normalised() -> None:
    images = split(20)
    batches = list(loader(images).epoch(5))
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    assert y.tolist() == list(range(20))
    np.testing.assert_allclose(x.numpy(), normalised(images), rtol=0, atol=2e-6)
    assert [len(x) for x, _ in batches] == [8, 8, 4]
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types(dtype: torch.dtype) -> None:
    images = split(8)
    ((x, _),) = loader(images, dtype=dtype).epoch(0)
    assert x.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 0.02, torch.float16: 2e-3}[dtype]
    np.testing.assert_allclose(x.double().numpy(), normalised(images), atol=tolerance)


def test_orders_differ_by_seed_and_epoch_but_not_by_augmentation() -> None:
    images = split(50)

    def order(seed: int, epoch: int, augment: Augment | None = None) -> list[int]:
        batches = loader(images, 50, seed=seed, shuffle=True, augment=augment).epoch(epoch)
        return next(batches)[1].tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len(set(map(tuple, orders))) == 9
    assert order(1, 1, Augment(pad=2, flip=True)) == order(1, 1)


def test_every_image_is_first_equally_often() -> None:
    loader_ = loader(split(5), 5, shuffle=True)
    first = Counter(int(next(loader_.epoch(epoch))[1][0]) for epoch in range(1000))
    assert max(abs(first[image] - 200) for image in range(5)) < 5 * math.sqrt(1000 * 0.2 * 0.8)


@settings(deadline=None, max_examples=60)
@given(
    pad=st.integers(0, 7),
    flip=st.booleans(),
    crop=st.sampled_from([None, 1, 3, 4]),
    height=st.integers(4, 7),
    width=st.integers(4, 7),
)
def test_a_random_crop_is_a_window_of_the_padded_image(
    pad: int, flip: bool, crop: int | None, height: int, width: int
) -> None:
    """Found by search among all windows of the image, normalised and then padded with zeros."""
    images = split(6, height, width)
    original = normalised(images)
    augment = Augment(pad=pad, flip=flip, center_crop=crop, repetitions=2)
    size = augment.image_size((height, width))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    padded = np.pad(original, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = [
        padded[:, :, top + down : top + down + size[0], left + right : left + right + size[1]]
        for down in range(2 * pad + 1)
        for right in range(2 * pad + 1)
    ]
    windows += [window[..., ::-1] for window in windows] if flip else []
    for x, y in loader(images, 4, augment=augment, shuffle=True).epoch(0):
        assert x.shape[2:] == size
        for row, label in zip(x.numpy(), y, strict=True):
            assert any(np.allclose(row, window[label], atol=2e-6) for window in windows)


def test_all_shifts_are_equally_frequent_and_mirrored_half_the_time() -> None:
    """The place of one bright pixel tells shift and mirroring."""
    images = torch.zeros(1, 9, 9, 1, dtype=torch.uint8)
    images[0, 4, 3] = 255  # one to the left of the centre
    augment = Augment(pad=2, flip=True, repetitions=20_000)
    single = Images(images, torch.zeros(1, dtype=torch.int64))
    x, _ = next(loader(single, 20_000, augment=augment, mean=[0], std=[1]).epoch(0))
    counts = x[:, 0].sum(0).numpy() / 20_000
    expected = np.zeros((9, 9))
    for down in range(-2, 3):
        for right in range(-2, 3):
            expected[4 + down, 3 + right] += 0.5 / 25
            expected[4 + down, 8 - (3 + right)] += 0.5 / 25
    assert np.abs(counts - expected).max() < 5 * np.sqrt(0.04 / 20_000)
    assert counts.sum() == pytest.approx(1)


def test_repetitions_are_shifted_independently() -> None:
    images = split(4, 12, 12)
    x, y = next(loader(images, 64, augment=Augment(pad=4, repetitions=16)).epoch(0))
    for label in range(4):
        different = {row.numpy().tobytes() for row in x[y == label]}
        assert len(different) >= 12  # 81 places for 16 of them
    batches = [
        next(loader(images, 64, augment=Augment(pad=4, repetitions=16)).epoch(e)) for e in (0, 1)
    ]
    assert not torch.equal(batches[0][0], batches[1][0])


def test_tiny_imagenet_protocol() -> None:
    """Center-crop 48 + 2 pad, then a random crop of 48; center-crop 48 in the test."""
    images = split(3, 64, 64, 3)
    original = torch.from_numpy(normalised(images)).float()
    for pad in (0, 4, 8):
        augment = Augment(pad=pad, center_crop=48)
        middle = original[:, :, 8 - pad : 56 + pad, 8 - pad : 56 + pad]
        places = middle.unfold(2, 48, 1).unfold(3, 48, 1)  # (N, C, 2 pad + 1, 2 pad + 1, 48, 48)
        x, _ = next(loader(images, 3, augment=augment).epoch(0))
        assert x.shape == (3, 3, 48, 48)
        distance = (places - x[:, :, None, None]).abs().amax((1, 4, 5))
        assert (distance.flatten(1).amin(1) < 1e-5).all()
        x, _ = next(loader(images, 3, augment=augment.evaluation()).epoch(0))
        torch.testing.assert_close(x, original[:, :, 8:56, 8:56], rtol=0, atol=1e-5)


def test_padding_is_the_training_mean() -> None:
    data = load("digits-translated")
    whole = next(loader(data.train, 600, mean=data.mean, std=data.std).epoch(0))[0]  # type: ignore
    assert float(whole.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whole.std(correction=0)) == pytest.approx(1, rel=1e-6)
    far = Augment(pad=40, repetitions=4)
    x = next(loader(data.train, 2400, mean=data.mean, std=data.std, augment=far).epoch(0))[0]  # type: ignore
    assert ((x == 0).flatten(1).all(1)).float().mean() > 0.3  # wholly outside of the image


def test_threads_change_nothing() -> None:
    images, before = split(300, 32, 32), torch.get_num_threads()
    batches: list[Batches] = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            augment = Augment(pad=4, flip=True, repetitions=2)
            batches.append(list(loader(images, 128, augment=augment, shuffle=True).epoch(2)))
    finally:
        torch.set_num_threads(before)
    assert same(*batches)


def test_images_need_not_be_contiguous() -> None:
    images = split(8, 6, 6)
    strided = Images(images.images.transpose(1, 2).contiguous().transpose(1, 2), images.labels)
    augment = Augment(pad=2)
    assert same(*(list(loader(i, augment=augment).epoch(0)) for i in (images, strided)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"augment": Augment(repetitions=3)}, "batch_size must be divisible by repetitions = 3"),
        ({"mean": [0.5]}, "mean must be one number for each of 2 channels"),
        ({"std": [0.1, 0.0]}, "std must be > 0 for every channel"),
        ({"rank": 2, "world": 2}, "rank must be 0 to 1, got 2"),
        ({"world": 0}, "world must be a number of processes >= 1"),
        ({"seed": -3}, "seed must be a whole number >= 0, got -3"),
        ({"workers": 0}, "workers must be None or a number of threads >= 1"),
        ({"dtype": torch.int64}, "dtype must be a floating-point type"),
        ({"augment": Augment(center_crop=6)}, "center_crop must be at most the size 5"),
        ({"augment": Augment(crop="resize")}, "crop must be None for images in memory"),
        ({"world": 5, "rank": 4}, "the last batch, now of 2, has a row for each of 5 ranks"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        loader(split(10), **arguments)


def test_epochs_that_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="start must be 0 to 2, the number of batches, got 3"):
        loader(split(10)).epoch(0, 3)
    with pytest.raises(InvalidArgument, match="epoch must be a whole number >= 0, got -1"):
        loader(split(10)).epoch(-1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pad": -1}, "pad must be a whole number of pixels >= 0, got -1"),
        ({"repetitions": 0}, "repetitions must be a number >= 1, got 0"),
        ({"center_crop": 0}, "center_crop must be a whole number of pixels >= 1, or None"),
        ({"crop": "resized"}, "crop must be one of resize, random-resized, got 'resized'"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Augment(**settings)


@pytest.mark.gpu
def test_a_gpu_makes_the_same_batches() -> None:
    images = split(300, 32, 32, 3)
    augment = Augment(pad=4, flip=True, repetitions=2)
    arguments: dict[str, Any] = {"augment": augment, "shuffle": True}
    here = loader(images, 64, **arguments)
    there = loader(images, 64, device="cuda", **arguments)
    for (x, y), (x_gpu, y_gpu) in zip(here.epoch(1), there.epoch(1), strict=True):
        assert (x_gpu.device.type, y_gpu.device.type) == ("cuda", "cuda")
        assert x_gpu.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(x, x_gpu.cpu(), rtol=0, atol=1e-5)
        assert torch.equal(y, y_gpu.cpu())
