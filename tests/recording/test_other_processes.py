"""A run is readable while another process writes it, and after that was killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from runs import (
    child,
    complete_rows,
    ended,
    opened,
    said,
)

from neurosim.recording import RunReader, describe_lines


@pytest.mark.parametrize("number", range(8))
def test_a_killed_run_has_exactly_its_complete_rows(tmp_path: Path, number: int) -> None:
    script = """
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 10**9):
        add(writer, i)
        writer.write("snr", np.full(60, float(i)), index=i % 2)
        if i % 5 == 0:
            writer.flush()
"""
    process = child(script, path := tmp_path / "run.h5")
    said(process)
    time.sleep(np.random.default_rng(number).uniform(0, 0.1))
    process.kill()
    acknowledged = int(ended(process)[0].split("\n")[-2] or 1)

    with RunReader(path) as run:
        assert run.status == "killed"
        assert complete_rows(run) in (acknowledged, acknowledged + 1)
        assert run["snr"].shape == (2, 60)
        assert "killed: the writing process is gone; what was recorded is readable" in "\n".join(
            describe_lines(run)
        )
        assert run.age < 60


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    script = """
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 251):
        add(writer, i)
    writer.write("snr", np.ones(60), index=1)
    writer.flush()
    print("flushed", flush=True)
    sys.stdin.readline()
"""
    process = child(script, path := tmp_path / "run.h5")
    said(process)
    seen = []
    with RunReader(path) as run:
        while not seen or seen[-1] < 250:
            assert run.status == "running"
            seen.append(complete_rows(run))
            assert complete_rows(run) == seen[-1]  # still until refreshed
            run.refresh()
        assert seen == sorted(seen)
        assert len(set(seen)) > 2
        while said(process) != "flushed":
            pass
        run.refresh()
        np.testing.assert_array_equal(run["snr"], np.stack([np.full(60, np.nan), np.ones(60)]))
        process.communicate("\n", timeout=30)
        run.refresh()
        assert run.status == "complete"
    with RunReader(path) as run:
        assert (run.status, complete_rows(run)) == ("complete", 250)


@pytest.mark.parametrize("number", range(4))
def test_ctrl_c_leaves_an_interrupted_run_of_whole_rows(tmp_path: Path, number: int) -> None:
    script = """
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 10**9):
        add(writer, i)
"""
    process = child(script, path := tmp_path / "run.h5")
    said(process)
    time.sleep(np.random.default_rng(number).uniform(0, 0.1))
    process.send_signal(signal.SIGINT)
    output, errors = ended(process)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    with RunReader(path) as run:
        assert run.status == "interrupted"
        acknowledged = int(([1, *output.split()])[-1])
        assert complete_rows(run) in (acknowledged, acknowledged + 1)
    with opened(path) as file:
        assert len({len(file[name]) for name in ("step", "loss", "net/weight")}) == 1


def test_a_full_disk_leaves_a_failed_run_and_one_sentence(tmp_path: Path) -> None:
    script = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
with declared(sys.argv[1]) as writer:
    writer.start()
    for i in range(1, 10**5):
        add(writer, i)
"""
    process = child(script, path := tmp_path / "run.h5")
    output, errors = ended(process)
    assert process.returncode == 1
    assert errors.splitlines()[-1].endswith(
        "run.h5: could not be written (File too large); is the disk full?"
    )
    with RunReader(path) as run:
        assert run.status == "failed"
        assert "is the disk full?" in run.message
        assert complete_rows(run) == int(output.split()[-1])


def test_only_numpy_and_h5py_are_imported() -> None:
    script = (
        "import sys, neurosim.recording;"
        "print([m for m in ('torch', 'scipy', 'numba', 'brian2') if m in sys.modules])"
    )
    assert said(child(script)) == "[]"
