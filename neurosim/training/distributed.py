"""One process of several, started by torchrun, or a process of its own."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from neurosim.errors import InvalidArgument, NeurosimError

T = TypeVar("T")


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

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values: others may have been rounded differently."""
        if self.world == 1:
            return
        for tensor in tensors:
            values = tensor.detach().clone(memory_format=torch.contiguous_format)
            dist.broadcast(values, 0)
            with torch.no_grad():
                tensor.copy_(values)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def lead(self, work: Callable[[], None]) -> None:
        """Let the first process do something that the others wait for, and fail together."""
        error: Exception | None = None
        if self.first:
            try:
                work()
            except Exception as raised:  # whatever it was, the others must not wait for ever
                error = raised
        message = [None if error is None else str(error) or type(error).__name__]
        if self.world > 1:
            dist.broadcast_object_list(message, 0)
        if error is not None:
            raise error
        if message[0] is not None:
            raise NeurosimError(message[0])


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


def join_processes(device_name: str) -> Processes:
    """This process's place in the group that torchrun's environment describes."""
    device = choose_device(device_name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(device=device)
    if device.type == "cuda":
        device = _own_gpu(device)
    if not dist.is_initialized():  # joined once: torchrun's store cannot be met at a second time
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), world, device)


def _own_gpu(asked: torch.device) -> torch.device:
    """The GPU with this process's number on this machine."""
    if asked.index is not None:
        raise InvalidArgument(
            f"--device must be cuda where torchrun gives every process its own GPU, got {asked}"
        )
    number, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= found:
        raise InvalidArgument(
            f"--nproc-per-node must be at most {found}, the GPUs of this machine, got a process "
            f"number {number}"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
