"""Runs that the tests of run files write, here and in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import neurosim.recording
from neurosim.recording import RunReader, RunWriter

HOME = Path(neurosim.recording.__file__).parents[2]
SETUP: dict[str, Any] = {
    "kind": "convergence",
    "config": {"gamma": 0.1, "sizes": [3, 4]},
    "seed": 7,
}

PRELUDE = """
import os, sys, time
import numpy as np
from neurosim.recording import RunWriter

def declared(path, **more):
    writer = RunWriter(path, kind="convergence", config={"a": 1}, **more)
    writer.scale("step", dtype="i8")
    writer.scale("setting", ["few", "many"])
    writer.scale("place", np.arange(60))
    writer.dataset("loss", ("step",))
    writer.dataset("net/weight", ("step", "place"), "f4")
    writer.dataset("net/packed", ("step", "place"), "f4", compression="gzip")
    writer.dataset("snr", ("setting", "place"))
    return writer

def add(writer, i):
    row = np.full(60, i, "f4")
    writer.append("step", {"step": i, "loss": i / 2, "net/weight": row, "net/packed": -row})
    os.write(1, b"%d\\n" % i)
"""


CHILDREN: list[subprocess.Popen] = []


def child(script: str, *arguments: object) -> subprocess.Popen:
    """Run `script` with the declarations above in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    CHILDREN.append(process)
    return process


def ended(process: subprocess.Popen) -> tuple[str, str]:
    """What a child printed on both channels up to its end."""
    return process.communicate(timeout=30)


def said(process: subprocess.Popen) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write_steps(writer: RunWriter, values: dict[int, float]) -> None:
    for step, loss in values.items():
        writer.append("step", {"step": step, "loss": loss})


def declare(writer: RunWriter) -> RunWriter:
    writer.scale("step", dtype="i8")
    writer.scale("setting", ["few", "many"], description="how many neurons")
    writer.scale("trial", np.arange(3))
    writer.scale("presentation", np.arange(5), units="presentations")
    writer.dataset("loss", ("step",), description="loss of the step")
    writer.dataset("snr", ("setting", "trial", "presentation"), description="1/SNR")
    writer.dataset("count", ("setting",), "i4")
    writer.constant("settings/gamma", [0.1, 0.2], ("setting",), units="1/s")
    writer.constant("note", "größer")
    return writer


def started(path: Path, **more: Any) -> RunWriter:
    writer = declare(RunWriter(path, **{**SETUP, **more}))
    writer.start()
    return writer


def opened(path: Path) -> Any:
    return h5py.File(path, "r+")


def complete_rows(run: RunReader) -> int:
    """Number of rows, all of them whole and as written by `add`."""
    step = run["step"]
    np.testing.assert_array_equal(step, np.arange(1, len(step) + 1))
    np.testing.assert_array_equal(run["loss"], step / 2)
    np.testing.assert_array_equal(run["net/weight"], np.repeat(step[:, None], 60, axis=1))
    np.testing.assert_array_equal(run["net/packed"], -np.repeat(step[:, None], 60, axis=1))
    return len(step)
