"""What distorting images costs beside training with them: shares of a training step.

    python -m experiments.performance.free_conv [--device cpu|cuda] [--out FOLDER]

A batch of 256 images of MNIST's size, in one process and interleaved, because machines are noisy:
a full Adam step of the free network, its forward pass, and each of the six distortions. Of each
the fastest counts. Nothing is timed before distorted images equal scipy's.

Claim: a distortion costs less than 5% of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from experiments.common.result import table
from experiments.performance.measure import interleaved
from experiments.performance.parts import command_line, execute, keep
from neurosim.data import distortion
from neurosim.data.distort import KINDS
from neurosim.data.warp import warp
from neurosim.errors import require
from neurosim.models import free

STRENGTH = 0.2
BATCH, SIDE = 256, 28


@dataclass(frozen=True)
class Options:
    """What to measure."""

    device: str = "cpu"
    repeats: int = 30
    out: Path | None = None


def check(device: str) -> None:
    """Refuse to time what does not do what scipy does."""
    random = torch.Generator().manual_seed(0)
    images = torch.rand(4, SIDE, SIDE, 1, generator=random)
    shift = 12 * torch.rand(4, 2, generator=random) - 6
    moved = warp(images.to(device), torch.eye(2, device=device), shift.to(device), 1).cpu()
    for found, image, by in zip(moved[..., 0], images[..., 0], shift, strict=True):
        expected = ndimage.shift(image.numpy(), -by.numpy(), order=1, mode="nearest")
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def timed(options: Options) -> dict[str, float]:
    """Milliseconds of everything."""
    torch.manual_seed(0)
    model = free("mnist", connectivity="local").to(options.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    images = torch.rand(BATCH, SIDE, SIDE, 1, device=options.device)
    target = torch.randint(10, (BATCH,), device=options.device)
    x = images.permute(0, 3, 1, 2)
    random = torch.Generator(options.device).manual_seed(0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), target).backward()
        optimizer.step()

    @torch.no_grad()
    def forward() -> None:
        model(x)

    works: dict[str, Callable[[], object]] = {"training step": step, "forward pass": forward}
    for kind in KINDS:
        text = kind if kind == "swap" else f"{kind}:{STRENGTH}"
        works[text] = partial(distortion(text), images, random)
    measured = interleaved([*works.values()], options.repeats, options.device)
    return dict(zip(works, measured, strict=True))


def main(options: Options) -> None:
    """Measure, print, keep."""
    require(options.repeats >= 1, "--repeats", options.repeats, ">= 1")
    possible = options.device == "cpu" or torch.cuda.is_available()
    require(possible, "--device", options.device, "cpu where no GPU is found")
    check(options.device)
    times = timed(options)
    step = times["training step"]
    rows = [[name, f"{ms:.2f}", f"{100 * ms / step:.2f}%"] for name, ms in times.items()]
    title = f"free network for MNIST, batch {BATCH}, {options.device}, {torch.get_num_threads()}"
    lines = [f"{title} threads", *table(["", "ms", "of a step"], rows)]
    print("\n".join(lines))
    keep(options.out, f"free-{options.device}", lines, {"milliseconds": times})


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=30, help="of which the fastest counts (30)")
    execute(parser, Options, main)
