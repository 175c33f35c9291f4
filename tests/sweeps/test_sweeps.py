"""Sweeps over real schedulers and processes, some of which are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed", reason="needs the extra [cluster]")

import machines

import neurosim
from analysis.sweeps import collect, collect_array
from experiments.commands.studies.find import find_study
from experiments.common.convergence import run_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.options import RunOptions
from neurosim.cli import main
from neurosim.errors import InvalidArgument, NeurosimError
from neurosim.recording import RunReader
from neurosim.sweeps import Place, StudyFolder, build_grid, clusters, read_records, sweep_study
from neurosim.training import (
    DataSettings,
    OptimisationSettings,
    TrainSettings,
    train,
)
from neurosim.training import Place as TrainingPlace

TRAINING = {"subset": 100, "test_subset": 50, "batch_size": 50, "epochs": 1}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[machines.Machines]:
    with machines.machines(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def test_every_point_is_there_once_with_its_own_result(
    cluster: machines.Machines, tmp_path: Path
) -> None:
    grid = {"scale": [1, 2.5, 10], "pause": 0.0}
    swept = neurosim.sweep(
        machines.draw, grid, tmp_path / "s", where=cluster.address, seeds=40, quiet=True
    )
    assert (swept.total, swept.completed, swept.failed) == (120, 120, {})
    table = collect(tmp_path / "s")
    assert len(table) == 120
    assert table.index.is_unique
    assert set(table.status) == {"complete"}
    arrays = collect_array(tmp_path / "s", "values")
    for key, row in table.iterrows():
        alone = machines.draw(row["scale"], row["seed"])
        assert row["mean"] == alone["mean"]
        assert row["sign"] == alone["sign"]
        np.testing.assert_array_equal(arrays[key], alone["values"])
    assert len(list((tmp_path / "s/runs").iterdir())) < 40  # not a file for each
    # Again, and with more values: nothing is run twice.
    grid = {"scale": [1, 2.5, 10, 11]}
    again = neurosim.sweep(
        machines.draw, grid, tmp_path / "s", where=cluster.address, seeds=40, quiet=True
    )
    assert (again.skipped, again.completed) == (120, 40)
    assert set(machines.entered(tmp_path / "s").values()) == {1}
    assert len(collect(tmp_path / "s")) == 160


def test_a_client_of_ones_own(cluster: machines.Machines, tmp_path: Path) -> None:
    """It is used, and left open."""
    from distributed import Client

    with Client(cluster.address) as client:
        swept = neurosim.sweep(
            machines.draw, {"scale": [1.0, 2.0]}, tmp_path / "s", client=client, seeds=2, quiet=True
        )
        assert (swept.total, swept.completed, swept.failed) == (4, 4, {})
        assert client.nthreads()
    table = collect(tmp_path / "s")
    alone = [machines.draw(scale, seed)["mean"] for scale in (1.0, 2.0) for seed in (0, 1)]
    assert sorted(table["mean"]) == sorted(alone)


def test_a_worker_is_killed_in_the_middle(tmp_path: Path) -> None:
    with machines.machines(tmp_path) as cluster:
        script = _client(tmp_path, cluster.address, pause=0.03, seeds=200)
        machines.wait_for(lambda: sum(machines.entered(tmp_path / "s").values()) > 10)
        cluster.workers[0].kill()
        _, error = script.communicate(timeout=60)
        assert script.returncode == 0, error.decode()
    counts = machines.entered(tmp_path / "s")
    assert len(counts) == 200
    assert set(counts.values()) == {1}
    assert not machines.entered(tmp_path / "s", "failed")


def test_started_twice_then_killed_then_continued(
    cluster: machines.Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = _client(tmp_path, cluster.address, pause=0.03, seeds=200)
    machines.wait_for(lambda: sum(machines.entered(tmp_path / "s").values()) > 10)
    grid = {"scale": [1], "pause": 0.03}
    with pytest.raises(InvalidArgument, match=rf"is being swept by process {script.pid} on"):
        neurosim.sweep(machines.draw, grid, tmp_path / "s", where=cluster.address, seeds=200)
    assert main(["sweep", "--status", str(tmp_path / "s")]) == 0
    assert "being swept" in capsys.readouterr().out
    script.send_signal(signal.SIGKILL)
    script.wait()
    assert main(["sweep", "--status", str(tmp_path / "s")]) == 0
    assert "at rest" in (said := capsys.readouterr().out)
    assert "cut short" in said
    before = len(machines.entered(tmp_path / "s"))
    swept = neurosim.sweep(
        machines.draw, grid, tmp_path / "s", where=cluster.address, seeds=200, quiet=True
    )
    assert before <= swept.skipped < 200  # some were finished, and found, after the kill
    counts = machines.entered(tmp_path / "s")
    assert len(counts) == 200
    assert set(counts.values()) == {1}
    for key, values in collect_array(tmp_path / "s", "values").items():
        seed = collect(tmp_path / "s").loc[key, "seed"]
        np.testing.assert_array_equal(values, machines.draw(1, seed)["values"])


def _client(folder: Path, address: str, pause: float, seeds: int) -> subprocess.Popen:
    """A process that sweeps `draw`."""
    code = (
        "import neurosim, machines\n"
        f"neurosim.sweep(machines.draw, {{'scale': [1], 'pause': {pause}}}, {str(folder / 's')!r}, "
        f"where={address!r}, seeds={seeds}, quiet=True)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], env=machines.ENVIRONMENT, stderr=subprocess.PIPE
    )


def test_what_a_kill_left_behind_is_found_again(cluster: machines.Machines, tmp_path: Path) -> None:
    """Results were written, and the client died before it could enter them."""
    folder, grid = tmp_path / "s", {"scale": [1, 2]}
    neurosim.sweep(machines.draw, grid, folder, where=cluster.address, seeds=10, quiet=True)
    before = collect(folder)
    (segment,) = (folder / "index").iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-2]) + lines[-2][:40])  # one torn, one never written
    assert len(collect(folder)) < 20
    swept = neurosim.sweep(machines.draw, grid, folder, where=cluster.address, seeds=10, quiet=True)
    assert (swept.skipped, swept.completed) == (20, 0)
    after = collect(folder).loc[before.index]
    for name in ("mean", "sign", "scale", "seed"):
        assert (after[name] == before[name]).all()


def test_one_that_fails_does_not_stop_the_others(
    cluster: machines.Machines, tmp_path: Path
) -> None:
    grid = {"scale": [1, 2, 3, 4]}
    swept = neurosim.sweep(
        machines.fail_at_three, grid, tmp_path / "s", where=cluster.address, retries=2, quiet=True
    )
    assert swept.completed == 3
    (error,) = swept.failed.values()
    assert error.startswith("RuntimeError: three is too many [fail_at_three, machines.py:")
    table = collect(tmp_path / "s")
    assert sorted(table[table.status == "complete"]["scale"]) == [1, 2, 4]
    failed = table[table.status == "failed"].iloc[0]
    assert (failed["scale"], failed["attempts"], failed["error"]) == (3, 3, error)
    marks = tmp_path / "marks"
    marks.mkdir()
    grid |= {"marks": str(marks)}
    for retries, completed in ((0, 0), (1, 4)):
        for mark in marks.iterdir():
            mark.unlink()
        once = neurosim.sweep(
            machines.fail_once, grid, tmp_path / f"r{retries}", where=cluster.address,
            retries=retries, quiet=True,
        )  # fmt: skip
        assert once.completed == completed
    assert collect(tmp_path / "r1")["attempts"].tolist() == [2] * 4


def test_results_that_cannot_be_stored_are_their_points_failure(
    cluster: machines.Machines, tmp_path: Path
) -> None:
    grid = {"kind": [*machines.ODD, "fine"]}
    for _ in range(2):  # nothing is left behind that would be in the way
        swept = neurosim.sweep(
            machines.odd, grid, tmp_path / "s", where=cluster.address, quiet=True
        )
        assert len(swept.failed) == len(machines.ODD)
    table = collect(tmp_path / "s")
    assert table[table.status == "complete"]["kind"].tolist() == ["fine"]
    errors = table[table.status == "failed"]["error"]
    assert all(error.startswith("InvalidArgument") for error in errors)


def test_a_machine_that_cannot_claim_its_gpu_is_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError in a worker's process is the worker's, not a scheduler that went away."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "neurosim-gpu-0-0").mkdir()  # where the lock should be
    swept = neurosim.sweep(
        machines.draw, {"scale": 1.0, "pause": 0.0}, tmp_path / "s", gpus_per_run=1.0, retries=0,
        workers=1, quiet=True,
    )  # fmt: skip
    (error,) = swept.failed.values()
    assert error.startswith("IsADirectoryError")


def test_whether_a_folder_is_swept_can_be_asked_without_writing(tmp_path: Path) -> None:
    home = StudyFolder.create(tmp_path / "s", "study", {})
    assert not home.swept()
    assert not (home.path / "lock").exists()
    with home.locked():
        assert home.swept()
        with pytest.raises(InvalidArgument, match="is being swept by process"), home.locked():
            pass
    assert not home.swept()


@pytest.mark.parametrize("forgotten", ["120s", pytest.param("10ms", marks=pytest.mark.slow)])
def test_one_that_kills_its_workers_costs_only_itself(
    forgotten: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local workers are started again, also those that Dask gave up; who shared a batch with the
    culprit is not blamed. (Giving up closes workers that are at work: hence several retries.)"""
    monkeypatch.setitem(clusters.DASK, "distributed.deploy.lost-worker-timeout", forgotten)
    swept = neurosim.sweep(
        machines.die_at_three, {"scale": range(8)}, tmp_path / "s", workers=2, retries=4, quiet=True
    )
    assert swept.completed == 7
    (error,) = swept.failed.values()
    assert "died" in error
    table = collect(tmp_path / "s")
    failed = table[table.status == "failed"].iloc[0]
    assert (failed["scale"], failed["attempts"]) == (3, 5)


def test_results_are_those_of_each_point_alone(cluster: machines.Machines, tmp_path: Path) -> None:
    place = Place(cluster.address)
    study = find_study(["converge"])
    given = {"alpha": [1, 10], "kernel": 2, "gammas": 0.1, "presentations": 60, "trials": 2}
    sweep_study(study, build_grid("converge", study.options, given, 2), tmp_path / "c", place,
                quiet=True)  # fmt: skip
    table, curves = collect(tmp_path / "c"), collect_array(tmp_path / "c", "inverse_snr")
    assert len(table) == 4
    for key, row in table.iterrows():
        alone = ConvergenceStudy(
            kernels=(row["kernels"],), gammas=(0.1,), alphas=(row["alphas"],),
            presentations=60, trials=2,
        )  # fmt: skip
        out = tmp_path / str(key)
        run_study(alone, "alone", RunOptions(out=out, seed=row["seed"], quiet=True))
        with RunReader(out / "alone.h5") as run:
            np.testing.assert_array_equal(curves[key], run["inverse_snr"][0])
            assert row["limit.circuit"] == run["limit/circuit"][0]

    study = find_study(["train"])
    grid = build_grid("train", study.options, {**TRAINING, "lr": 1e-2}, 1)
    sweep_study(study, grid, tmp_path / "t", place, quiet=True)
    for key, row in collect(tmp_path / "t").iterrows():
        settings = TrainSettings(
            DataSettings(subset=100, test_subset=50),
            optimisation=OptimisationSettings(lr=row["lr"], batch_size=50, epochs=1),
        )
        train(settings, TrainingPlace(tmp_path / f"{key}.h5", device="cpu", quiet=True))
        with (
            RunReader(tmp_path / f"{key}.h5") as alone,
            RunReader(tmp_path / "t/runs" / f"{key}.h5") as swept,
        ):
            assert swept.config == alone.config
            for name in ("loss", "top1", "test_loss", "statistics"):
                np.testing.assert_array_equal(swept[name], alone[name])
            assert row["test_loss"] == alone["test_loss"][-1]


def test_an_unreachable_scheduler_is_an_error_within_ten_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(InvalidArgument, match="nothing answers at tcp://127"):
        neurosim.sweep(machines.draw, {"scale": 1}, tmp_path / "s", where="tcp://127.0.0.1:1")
    assert time.monotonic() - start < 10


def test_a_worker_without_the_folder_says_so(cluster: machines.Machines, tmp_path: Path) -> None:
    from distributed import Client

    with Client(cluster.address) as client:
        client.run(os.getpid)
    folder = StudyFolder.create(tmp_path / "s", "draw", {})
    assert folder.runs.is_dir()
    from neurosim.sweeps.grid import Point
    from neurosim.sweeps.worker import Work, run_batch

    work = Work(lambda config, place: {}, "draw", tmp_path / "elsewhere", alone=False)
    with pytest.raises(NeurosimError, match="a file system that all workers share"):
        run_batch(work, [Point("a", {})])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("converge --grid alpho=1", "did you mean 'alphas'?"),
        ("converge --grid gamma=0.1,-1", "--gammas must be finite and > 0, got -1.0"),
        ("converge --grid alpha=1,ten", "--grid alphas must be a number, got 'ten'"),
        ("converge --grid kernel=24 gamma=0.1", "rate"),  # beyond a stability bound
        ("converge --grid alpha=1,1", "--grid alpha must be without repetitions"),
        ("converge --grid alpha", "--grid must be pairs such as alpha=1,3,10"),
        ("train --grid lr=0.1,0", "--lr must be finite and > 0, got 0"),
        ("train --grid sleep=instnt", "did you mean 'instant'?"),
        ("table1 --grid variants=conf", "did you mean 'conv'?"),
        ("fig4a --grid out=x", "--grid key must be one of seed, got 'out'"),
        ("convrge --seeds 2", "did you mean 'converge'?"),
        ("converge --grid alpha=1 --seeds 0", "--seeds must be a number of seeds, >= 1"),
        ("converge --grid alpha=1 --retries -1", "--retries must be >= 0"),
        ("converge --grid alpha=1 --where here", "--where must be local, slurm or an address"),
        ("converge", "--grid or --seeds must say what is varied"),
        ("", "STUDY must be converge, train or"),
        ("--status nowhere", "not the folder of a study"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words.split()]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
    assert not list(tmp_path.iterdir())


def test_the_folder_of_another_study(cluster: machines.Machines, tmp_path: Path) -> None:
    place = {"where": cluster.address, "quiet": True}
    neurosim.sweep(machines.draw, {"scale": 1}, tmp_path / "s", **place)
    with pytest.raises(InvalidArgument, match="which is one of draw"):
        neurosim.sweep(machines.fail_at_three, {"scale": 1}, tmp_path / "s", **place)
    with pytest.raises(InvalidArgument, match=r"pause is 0.0, and now None"):
        neurosim.sweep(lambda scale: {}, {"scale": 1}, tmp_path / "s", name="draw", **place)
    assert len(list(read_records(tmp_path / "s/index"))) == 1


def test_the_command_line_sweeps_and_tells_by_its_exit_code(
    cluster: machines.Machines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--where", cluster.address, "--out", str(tmp_path / "s")]
    grid = ["kernel=2", "gamma=0.1", "presentations=20", "trials=1", "rates=3e-4"]
    words = ["sweep", "converge", *place, "--grid", *grid]
    assert main(words) == 2  # there is no such option
    words[-1] = "rate=3e-4,0.05"  # stable on its own? the second is not
    assert main(words) == 2
    words[-1] = "rate=3e-4,2e-4"
    capsys.readouterr()
    assert main(words) == 0
    found = capsys.readouterr()
    assert "2 points: 2 done" in found.out
    assert "dashboard" in found.err
