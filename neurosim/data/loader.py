"""Batches of a split: a pure function of the seed, the epoch and the batch's number.

Nothing is remembered between batches, so a run that stopped within an epoch goes on with
`epoch(e, start=b)`, and every process of a distributed run draws the same global batches and
takes its own rows of them. Random numbers are drawn on the CPU and once per epoch, so that
batches do not depend on the device, and making one never waits for it. Only what a distortion
draws, which may be a number for every pixel, comes from the device, from a generator of the
process's own for every batch.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from neurosim.data.augment import Augment, cut
from neurosim.data.decode import crop_file
from neurosim.data.images import Files, Images, Split, is_whole
from neurosim.data.random import generator
from neurosim.errors import InvalidArgument, require

Batch = tuple[Tensor, Tensor]

AHEAD = 3  # batches that are decoded before they are needed


class Loader:
    """Batches of images (n, C, H, W), normalised and in channels-last memory, and int64 labels.

    The last batch of an epoch is smaller where the batch size does not divide it. With r
    repetitions a batch holds batch_size / r images r times, and an epoch is still one pass over
    the images.

    Args:
        images: a split; one in memory moves to the device if it fits into half of what is free
            there, and one in files is decoded by threads ahead of its use.
        batch_size: rows of a batch, of all processes together.
        mean: of every channel, for images in [0, 1].
        std: of every channel, for images in [0, 1].
        augment: how images vary; None leaves them as they are.
        shuffle: whether every epoch has an order of its own.
        seed: of order and augmentation.
        device: where batches end up.
        rank: number of this process, which takes its share of every batch's rows.
        world: number of processes.
        dtype: of the images.
        workers: threads that decode files; by default one per core.
    """

    def __init__(
        self,
        images: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment | None = None,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        dtype: torch.dtype = torch.float32,
        workers: int | None = None,
    ) -> None:
        augment = augment or Augment()
        require(len(images) >= 1, "images", f"{len(images)} of them", "at least one")
        require(is_whole(batch_size) and batch_size >= 1, "batch_size", batch_size, "at least 1")
        allowed = f"divisible by repetitions = {augment.repetitions}"
        require(batch_size % augment.repetitions == 0, "batch_size", batch_size, allowed)
        require(is_whole(world) and world >= 1, "world", world, "a number of processes >= 1")
        require(is_whole(rank) and 0 <= rank < world, "rank", rank, f"0 to {world - 1}")
        allowed = "None or a number of threads >= 1"
        require(workers is None or workers >= 1, "workers", workers, allowed)
        for name, values in {"mean": mean, "std": std}.items():
            allowed = f"one number for each of {images.channels} channels"
            require(len(values) == images.channels, name, values, allowed)
        require(all(value > 0 for value in std), "std", std, "> 0 for every channel")
        require(dtype.is_floating_point, "dtype", dtype, "a floating-point type")
        _check_kind(images, augment)
        if augment.distortion is not None:
            augment.distortion.check(augment.image_size(images.image_size))
        generator("epoch", seed)  # refuses a seed that is none

        self.device, self.dtype = torch.device(device), dtype
        self.batch_size, self.augment = batch_size, augment
        self.shuffle, self.seed, self.rank, self.world = shuffle, seed, rank, world
        self.workers = workers or os.cpu_count() or 1
        self.image_size = augment.image_size(images.image_size)
        self.images = _resident(images, self.device) if isinstance(images, Images) else images
        self._originals = batch_size // augment.repetitions  # different images in a batch
        self._precision = torch.promote_types(dtype, torch.float32)
        options = {"device": self.device, "dtype": self._precision}
        self._mean = torch.tensor(mean, **options) * 255
        self._scale = 1 / (torch.tensor(std, **options) * 255)
        smallest = ((len(images) - 1) % self._originals + 1) * augment.repetitions
        allowed = (
            f"such that the last batch, now of {smallest}, has a row for each of {world} ranks"
        )
        require(smallest >= world, "batch_size", batch_size, allowed)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(len(self.images) / self._originals)

    def rows(self, batch: int) -> int:
        """Rows of a batch, those of all processes together."""
        first = batch * self._originals
        return min(self._originals, len(self.images) - first) * self.augment.repetitions

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        require(is_whole(epoch) and epoch >= 0, "epoch", epoch, "a whole number >= 0")
        fits = is_whole(start) and 0 <= start <= len(self)
        require(fits, "start", start, f"0 to {len(self)}, the number of batches")
        if isinstance(self.images, Images):
            return self._from_memory(self.images, epoch, start)
        return self._from_files(self.images, epoch, start)

    def _from_memory(self, images: Images, epoch: int, start: int) -> Iterator[Batch]:
        count, repetitions = len(images), self.augment.repetitions
        pad, device = self.augment.pad, images.labels.device
        random = generator("epoch", self.seed, epoch)
        order = torch.from_numpy(self._order(random)).to(device)
        shifts = random.integers(-pad, pad, (repetitions, count, 2), endpoint=True)
        flips = random.random((repetitions, count)) < (0.5 if self.augment.flip else 0)
        shifts, flips = torch.from_numpy(shifts).to(device), torch.from_numpy(flips).to(device)
        for batch in range(start, len(self)):
            part, own = self._part(batch)
            chosen = order[part].repeat(repetitions)[own]
            shift, flip = shifts[:, part].reshape(-1, 2)[own], flips[:, part].reshape(-1)[own]
            windows, inside = cut(images.images, chosen, self.image_size, shift, flip)
            x = self._normalised(windows, epoch, batch)
            if pad:
                x.mul_(inside.to(self.device))
            yield self._finished(x), images.labels[chosen].to(self.device)

    def _from_files(self, files: Files, epoch: int, start: int) -> Iterator[Batch]:
        order = self._order(generator("epoch", self.seed, epoch))
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        pending: deque[tuple[Tensor, Tensor, list[Future[None]]]] = deque()
        try:
            for batch in range(start, len(self) + AHEAD):
                if batch < len(self):
                    pending.append(self._decode(pool, files, order, epoch, batch))
                if batch >= start + AHEAD:
                    pixels, labels, jobs = pending.popleft()
                    for job in jobs:
                        job.result()
                    x = self._normalised(pixels, epoch, batch - AHEAD)
                    yield self._finished(x), labels.to(self.device, non_blocking=True)
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(
        self, pool: ThreadPoolExecutor, files: Files, order: np.ndarray, epoch: int, batch: int
    ) -> tuple[Tensor, Tensor, list[Future[None]]]:
        """Where a batch's crops will be, their labels, and the jobs that make them."""
        part, own = self._part(batch)
        positions = np.arange(len(order))[part]
        rows = [(r, p) for r in range(self.augment.repetitions) for p in positions.tolist()][own]
        pinned = self.device.type == "cuda"
        shape = (len(rows), *files.image_size, files.channels)
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        target = pixels.numpy()

        def make(row: int, repetition: int, position: int) -> None:
            path = files.path(int(order[position]))
            random = generator("file", self.seed, epoch, repetition, position)
            crop, flip = self.augment.crop, self.augment.flip
            target[row] = crop_file(path, files.size, files.resize, crop, flip, random)

        jobs = [pool.submit(make, row, *key) for row, key in enumerate(rows)]
        labels = files.labels[torch.from_numpy(order[[position for _, position in rows]])]
        return pixels, labels.pin_memory() if pinned else labels, jobs

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """Indices of the images in an epoch's order."""
        count = len(self.images)
        return random.permutation(count) if self.shuffle else np.arange(count)

    def _part(self, batch: int) -> tuple[slice, slice]:
        """Which part of the order a batch takes, and which of its rows this process does.

        The rows are all images of the part, then all of them again for every repetition.
        """
        first = batch * self._originals
        last = min(first + self._originals, len(self.images))
        rows = (last - first) * self.augment.repetitions
        own = slice(rows * self.rank // self.world, rows * (self.rank + 1) // self.world)
        return slice(first, last), own

    def _normalised(self, pixels: Tensor, epoch: int, batch: int) -> Tensor:
        """Uint8 (n, h, w, C) -> (x - mean) / std on the device, distorted on the way."""
        x = pixels.to(self.device, non_blocking=True).to(self._precision)
        if (distortion := self.augment.distortion) is not None:
            key = generator("distortion", self.seed, epoch, batch, self.rank)
            drawn = torch.Generator(self.device).manual_seed(int(key.integers(2**63)))
            x = distortion(x.div_(255), drawn).mul_(255)
        return x.sub_(self._mean).mul_(self._scale)

    def _finished(self, x: Tensor) -> Tensor:
        """(n, h, w, C) -> (n, C, h, w), which keeps the channels last in memory."""
        return x.to(self.dtype).permute(0, 3, 1, 2)


def _check_kind(images: Split, augment: Augment) -> None:
    """Refuse settings that mean nothing for this kind of split."""
    if isinstance(images, Images) and augment.crop is not None:
        raise InvalidArgument(
            f"crop must be None for images in memory, got {augment.crop!r}: "
            "it says how images of different sizes are cut that are read from files"
        )
    if isinstance(images, Files) and (augment.pad or augment.center_crop is not None):
        raise InvalidArgument(
            "pad must be 0 and center_crop None for images read from files, got "
            f"{augment.pad} and {augment.center_crop}: use crop, and the split's own size"
        )


def _resident(images: Images, device: torch.device) -> Images:
    """The images on the device if they fit into half of its free memory, else where they are."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.images.device != device and images.images.nbytes > free // 2:
            return Images(images.images.contiguous(), images.labels)
    moved = images.to(device)
    return Images(moved.images.contiguous(), moved.labels)
