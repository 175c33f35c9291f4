"""What tests of many kinds do: let a network learn, mistype a command, use two processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn


def losses(model: nn.Module, x: Tensor, target: Tensor, lr: float, steps: int) -> list[float]:
    """Cross entropy before every step of AdamW on one batch; each has to move all parameters."""
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
        found.append(loss.item())
    return found


def assert_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that says in one line, with exit code 2, what is wrong with it."""
    from neurosim.cli import main  # which needs more packages than layers do

    assert main(words.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("neurosim: error: ")
    assert message in error


def gradients_of_two_processes(
    build: Callable[[int], nn.Module], batch: Tensor, folder: Path, passes: int = 1
) -> dict[str, Tensor]:
    """Averaged gradients of a mean square, half of the batch each; `build` is given the rank."""
    torch.save(batch, folder / "batch.pt")
    arguments = (2, build, passes, str(folder))
    torch.multiprocessing.spawn(_process, arguments, nprocs=2)  # type: ignore[attr-defined]
    return torch.load(folder / "gradients.pt", weights_only=True)


def _process(
    rank: int, world: int, build: Callable[[int], nn.Module], passes: int, folder: str
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    model = nn.parallel.DistributedDataParallel(build(rank))
    batch = torch.load(Path(folder, "batch.pt"), weights_only=True)
    for _ in range(passes):
        model.zero_grad()
        model(batch.chunk(world)[rank]).square().mean().backward()
    if rank == world - 1:
        gradients = {n.removeprefix("module."): p.grad for n, p in model.named_parameters()}
        torch.save(gradients, Path(folder, "gradients.pt"))
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads now and then abort an interpreter that takes its time to end
