"""What tests of training train, also in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosim.errors import NeurosimError
from neurosim.nn import LocallyConnected2d
from neurosim.recording import RunReader
from neurosim.training import Place, TrainSettings, train
from neurosim.training.checkpoint import Checkpoints, load

TRAINING_IMAGES, TEST_IMAGES, SIDE, CLASSES = 24, 7, 8, 3
GROUPS = {
    field.name: field.default_factory  # type: ignore[union-attr]
    for field in fields(TrainSettings)
    if field.name != "seed"
}


def write_images(path: Path) -> Path:
    """Random images whose brightness tells their class."""
    random = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % CLASSES
        noise = random.integers(0, 120, (count, SIDE, SIDE))
        return (noise + 60 * labels[:, None, None]).astype(np.uint8), labels

    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = (*part(TRAINING_IMAGES), *part(TEST_IMAGES))
    np.savez(path, **dict(zip(names, arrays, strict=True)))
    return path


def settings_of(images: Path, **options: Any) -> TrainSettings:
    """Options by name, whatever group they are in."""
    given = {"dataset": str(images), "width": 0.25, "batch_size": 6, "epochs": 3, "lr": 1e-2}
    given |= {"record_every": 2} | options
    groups = {}
    for name, kind in GROUPS.items():
        known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
        groups[name] = kind(**{k: given.pop(k) for k in known & given.keys()})  # type: ignore[operator]
    return TrainSettings(**groups, **given)


class Plain(nn.Sequential):
    """Two locally connected layers and a classifier: nothing in it knows of a batch."""

    def __init__(self, dropout: float = 0.0, pause: float = 0.0) -> None:
        torch.manual_seed(1)
        super().__init__(
            LocallyConnected2d(1, 3, 3, SIDE, padding=1),
            nn.ReLU(),
            nn.Dropout(dropout),
            LocallyConnected2d(3, 2, 3, SIDE, stride=2, padding=1),
            nn.Flatten(),
            nn.Linear(2 * (SIDE // 2) ** 2, CLASSES),
        )
        self.pause = pause

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.pause)
        return super().forward(x)


# What a run leaves behind


def outcome(path: Path) -> dict[str, Any]:
    """The newest checkpoint and all rows of a run, but for what a clock says."""
    state = load(Place(path).checkpoints.paths()[-1])
    with RunReader(path) as run:
        clocks = ("images_per_second", "seconds")
        rows = {name: run[name] for name in run.names() if name not in clocks}
    return {"state": {k: v for k, v in state.items() if k != "run"}, "rows": rows}


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal bit for bit, NaN included."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    elif isinstance(one, Tensor | np.ndarray):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), where)
    else:
        assert one == other, where


# Processes of their own

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["neurosim.training"])  # torch is imported once for all children


@contextmanager
def child(work: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """Another process; it does not outlive the block."""
    process = CONTEXT.Process(target=work, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def train_and_tell(
    settings: TrainSettings, place: Place, pause: float, said: Path, limit: str = ""
) -> None:
    """Train `Plain`; what is raised is written to a file, whose folder others look into."""
    torch.set_num_threads(1)
    if limit:
        full_after_first_save(limit, place.run_file)
    try:
        train(settings, place, Plain(pause=pause))
    except NeurosimError as error:
        said.write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(3) from error


def full_after_first_save(what: str, run_file: Path) -> None:
    """From the first checkpoint on, let the disk be full for further ones, or for the run file."""
    import resource

    save, unlimited = Checkpoints.save, resource.RLIM_INFINITY

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited))

    def limited(self: Checkpoints, step: int, state: dict[str, Any]) -> Path:
        if what == "checkpoint" and (saved := self.paths()):
            limit(saved[0].stat().st_size // 2)
        try:
            return save(self, step, state)
        finally:
            limit(unlimited if what == "checkpoint" else run_file.stat().st_size)

    Checkpoints.save = limited  # type: ignore[method-assign]


def killed_while_saving(settings: TrainSettings, place: Place) -> None:
    """Train until the third checkpoint is half written."""
    torch.set_num_threads(1)
    save, saved = torch.save, []

    def stumble(state: Any, file: Any) -> None:
        saved.append(state)
        if len(saved) == 3:
            file.write(b"half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, file)

    torch.save = stumble
    train(settings, place, Plain())


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def rows_of(path: Path, name: str = "step") -> int:
    """How many rows a run has so far; 0 before it has begun."""
    if not path.exists():
        return 0
    with RunReader(path) as run:
        return len(run[name])


def ranks(work: Callable[..., None], world: int, *arguments: Any) -> None:
    """Run `work(rank, ...)` in processes that train together."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: Sequence[BaseProcess] = [
        CONTEXT.Process(target=_ranked, args=(rank, world, port, work, *arguments))
        for rank in range(world)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()


def _ranked(rank: int, world: int, port: int, work: Callable[..., None], *arguments: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    work(rank, *arguments)
