"""One process of several, started by torchrun, or a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from neurosim.errors import InvalidArgument


@dataclass(frozen=True)
class Processes:
    """The group that trains one network together."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    @property
    def first(self) -> bool:
        """Whether this process prints, records and saves."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the group."""
        if self.world == 1:
            return model
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the group, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def agree(self, model: nn.Module) -> None:
        """Give all processes the first one's weights: sleeps may round differently elsewhere."""
        if self.world > 1:
            with torch.no_grad():
                for parameter in model.parameters():
                    flat = parameter.detach().clone(memory_format=torch.contiguous_format)
                    dist.broadcast(flat, 0)
                    parameter.copy_(flat)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one."""
    allowed = "must be auto, cpu, cuda or cuda:N"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgument(f"--device {allowed}, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidArgument(f"--device {allowed}, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidArgument("--device must be cpu here, where torch finds no GPU, got 'cuda'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise InvalidArgument(f"--device must be below cuda:{found}, got {name!r}")
    return device


@contextmanager
def process_group(device_name: str) -> Iterator[Processes]:
    """Join the group that torchrun's environment describes, and leave it at the end."""
    device = choose_device(device_name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), world, device)
    finally:
        dist.destroy_process_group()
