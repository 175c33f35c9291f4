"""Weight trajectories against what training measured, brute force, and known answers."""

from __future__ import annotations

import csv
import json
import math
import tracemalloc
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.training import recorded_series, sleep_decay, training_curves
from analysis.trajectories import series as trajectories
from analysis.trajectories import weights
from analysis.trajectories.equality import equality
from analysis.trajectories.series import (
    Wanted,
    evenly,
    weight_trajectories,
)
from analysis.trajectories.spectra import spectrum
from analysis.trajectories.weights import chosen_layers, recorded_layers
from experiments.commands.analyze import AnalyzeOptions
from experiments.commands.analyze import run as analyze
from experiments.common.run_files import run_files
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.models import simple
from neurosim.nn import LocallyConnected1d, LocallyConnected2d
from neurosim.nn.masked import sever_weights
from neurosim.recording import RunReader, RunWriter
from neurosim.sleep import frame_of, layer_statistics, local_layers, share
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    Place,
    RecordSettings,
    SleepSettings,
    TrainSettings,
    train,
)

SETTINGS = TrainSettings(
    DataSettings(subset=120, test_subset=50),
    NetworkSettings(width=0.5),
    OptimisationSettings(batch_size=30, epochs=2),
    SleepSettings("instant", every=3, phase="global"),
    RecordSettings(record_every=2, snapshot_every=4),
)


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 steps: records after 1, 3, 5 and 7, sleeps after 1, 4 and 7, snapshots after 0, 4 and 8."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("run") / "run.h5"
    train(SETTINGS, Place(path, device="cpu", quiet=True))
    return path


def write(
    path: Path, snapshots: dict[str, np.ndarray], local: list[str], **constants: np.ndarray
) -> Path:
    """A run file with nothing but weights, (snapshot, ...) by layer."""
    with RunWriter(path, "training", {}) as run:
        run.scale("snapshot", dtype="i8")
        run.scale("layer", local or ["none"])
        for name, values in snapshots.items():
            axes = [f"weights/{name}/axis{i}" for i in range(values.ndim - 1)]
            for axis, size in zip(axes, values.shape[1:], strict=True):
                run.scale(axis, np.arange(size))
            run.dataset(f"weights/{name}/weight", ("snapshot", *axes), values.dtype)
            for what, value in constants.items():
                run.constant(f"weights/{name}/{what}", value, axes[: value.ndim])
        run.start()
        for step in range(len(next(iter(snapshots.values())))):
            row: dict[str, Any] = {f"weights/{n}/weight": v[step] for n, v in snapshots.items()}
            run.append("snapshot", {"snapshot": 10 * step, **row})
    return path


def trajectory_of(path: Path, **wanted: Any) -> dict[str, trajectories.Trajectory]:
    with RunReader(path) as run:
        return {found.layer: found for found in weight_trajectories(run, None, Wanted(**wanted))}


# Equality

CASES: dict[str, dict[str, Any]] = {
    "padding": {"kernel_size": 3, "padding": 1},
    "no padding": {"kernel_size": 3},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "even kernel": {"kernel_size": (2, 4), "padding": "same"},
    "dilation": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "no interior": {"kernel_size": 3, "padding": 20},
    "pointwise": {"kernel_size": 1, "stride": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_equal_what_sleep_measures(case: str) -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(3, 4, input_size=(9, 10), init=0.5, **CASES[case]).double()
    frame = frame_of(layer)
    filters = layer.weight.detach().flatten(0, 1).flatten(1).numpy()
    found = equality(filters, frame.grid.numpy(), frame.interior.numpy())
    assert astuple(found)[:8] == pytest.approx(astuple(layer_statistics(layer)), rel=1e-9)
    share(layer)
    filters = layer.weight.detach().flatten(0, 1).flatten(1).numpy()
    found = equality(filters, frame.grid.numpy(), frame.interior.numpy())
    assert found.spread < 1e-12
    if len(frame.members) == 1:  # sharing made it a convolution
        assert found.convolution_distance < 1e-12
        assert math.isnan(found.explained_by_grids)
    else:
        assert found.explained_by_grids == pytest.approx(1)


def test_absent_connections_do_not_count(tmp_path: Path) -> None:
    """Recorded and read back, moments are those of the connections that there are."""
    torch.manual_seed(0)
    network = simple(10, "local", 16, channels=(4, 5))
    for severed in local_layers(network).values():
        sever_weights(severed, 0.4)
    train(SETTINGS, Place(tmp_path / "run.h5", device="cpu", quiet=True), network)
    with RunReader(tmp_path / "run.h5") as run:
        for found in weight_trajectories(run, ["conv*"], Wanted(("equality", "sparsity"))):
            layer: Any = network.get_submodule(found.layer)
            assert 0.3 < found.values["sparsity"][-1] < 0.5
            for name, value in asdict(layer_statistics(layer)).items():
                assert found.values[name][-1] == pytest.approx(value, rel=1e-4), name


def test_the_nearest_convolution() -> None:
    """No shared filter is nearer than the one that the distance belongs to."""
    rng = np.random.default_rng(0)
    filters = rng.normal(size=(20, 6)) + 1
    grid, interior = np.arange(20) % 4, np.ones(20, bool)
    found = equality(filters, grid, interior)
    distance = found.convolution_distance * found.norm
    assert distance == pytest.approx(np.linalg.norm(filters - filters.mean(0)))
    for _ in range(20):
        other = filters.mean(0) + rng.normal(size=6) / 10
        assert np.linalg.norm(filters - other) > distance


def test_variance_explained_by_grids() -> None:
    """One-way analysis of variance by hand; nothing to explain in a convolution."""
    filters = np.array([[1.0], [5.0], [3.0], [7.0]])
    found = equality(filters, np.array([0, 1, 0, 1]), np.ones(4, bool))
    assert found.explained_by_grids == pytest.approx(16 / 20)  # around 4: 9 + 1 + 1 + 9
    assert found.spread == pytest.approx(1)
    same = equality(np.full((6, 3), 0.1), np.arange(6) % 2, np.ones(6, bool))
    assert math.isnan(same.explained_by_grids)
    assert same.convolution_distance == pytest.approx(0, abs=1e-12)
    nothing = equality(np.zeros((4, 2)), np.zeros(4, int), np.ones(4, bool))
    assert (nothing.convolution_distance, nothing.snr, nothing.norm) == (0, 0, 0)


def test_of_a_layer_without_interior_positions_nothing_is_known_there() -> None:
    filters = np.random.default_rng(0).normal(size=(4, 18))
    found = equality(filters, np.zeros(4, int), np.zeros(4, bool))
    assert np.isnan([found.snr, found.inverse_snr, found.mean_to_std]).all()
    assert found.grid_snr > 0
    assert found.norm == pytest.approx(np.linalg.norm(filters))


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = np.random.default_rng(0).normal(size=(12, 30))
    grid, interior = np.arange(12) % 3, np.arange(12) > 2
    whole, values = equality(filters, grid, interior), spectrum(filters).values
    monkeypatch.setattr(weights, "PART_BYTES", 500)
    assert astuple(equality(filters, grid, interior)) == pytest.approx(astuple(whole))
    np.testing.assert_allclose(spectrum(filters).values, values, rtol=1e-6)


# Effective rank


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 99))
def test_singular_values(rows: int, columns: int, seed: int) -> None:
    filters = np.random.default_rng(seed).normal(size=(rows, columns))
    found = spectrum(filters)
    wanted = np.linalg.svd(filters, compute_uv=False)
    np.testing.assert_allclose(found.values, wanted, atol=1e-6 * wanted[0])
    assert (
        1 <= found.participation_ratio <= found.effective_rank + 1e-9 <= min(rows, columns) + 1e-6
    )


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_rank_of_combined_banks(rank: int) -> None:
    """Orthonormal banks with equal energy: the effective rank is their number."""
    rng = np.random.default_rng(0)
    banks = np.linalg.qr(rng.normal(size=(40, rank)))[0].T
    mixing = np.linalg.qr(rng.normal(size=(25, rank)))[0]
    found = spectrum((mixing @ banks).astype(np.float32))
    assert found.effective_rank == pytest.approx(rank, rel=1e-3)
    assert found.participation_ratio == pytest.approx(rank, rel=1e-6)
    assert spectrum(np.ones((9, 4))).effective_rank == pytest.approx(1)
    assert spectrum(np.zeros((9, 4))).effective_rank == 0


# Trajectories


def test_a_real_run(run_file: Path) -> None:
    """What snapshots tell equals what training recorded of the same weights."""
    found = trajectory_of(run_file)
    assert list(found) == ["conv1", "conv2", "conv3", "fc"]
    with RunReader(run_file) as run:
        curves = training_curves(run)
        euclidean, cosine = run["euclidean_distance"], run["cosine_distance"]
        last = run.read("weights/conv2/weight", 2).astype(float)
        first = run.read("weights/conv2/weight", 0).astype(float)
    for number, name in enumerate(curves.layers):
        values = found[name].values
        assert found[name].steps.tolist() == [0, 4, 8]
        for index, radius in enumerate((1, 4)):
            np.testing.assert_allclose(
                values[f"euclidean_{radius}"], euclidean[:, number, index], atol=1e-6
            )
            np.testing.assert_allclose(
                values[f"cosine_{radius}"], cosine[:, number, index], atol=1e-6
            )
    drift = found["conv2"].values
    assert drift["drift"][2] == pytest.approx(np.linalg.norm(last - first) / np.linalg.norm(first))
    assert drift["drift"][0] == 0
    assert drift["step_drift"][1] == drift["drift"][1]
    assert math.isnan(drift["step_drift"][0])
    assert drift["nonzero"].tolist() == [first.size] * 3
    assert set(found["fc"].values) == {"norm", "sparsity", "nonzero", "drift", "step_drift"}
    with RunReader(run_file) as run:
        steps, values = recorded_series(training_curves(run), "conv1", "spread")
    assert steps.tolist() == [1, 1.5, 3, 4.5, 5, 7, 7.5]
    assert values[1] < 1e-6 < values[0]


def test_statistics_of_a_snapshot(tmp_path: Path) -> None:
    """The default grid and interior are the sleep's, with stride 1 and with stride 2."""
    torch.manual_seed(0)
    layers = {
        "same": LocallyConnected2d(2, 3, 3, 10, padding=1),
        "projection": LocallyConnected2d(2, 3, 1, 10, stride=2),
        "line": LocallyConnected1d(2, 3, 3, 12, padding=1),
    }
    values = {name: layer.weight.detach().numpy()[None] for name, layer in layers.items()}
    found = trajectory_of(write(tmp_path / "x.h5", values, list(layers)))
    for name, layer in layers.items():
        for measure, wanted in zip(
            ("snr", "inverse_snr", "mean_to_std", "grid_snr", "grid_inverse_snr",
             "grid_mean_to_std", "spread", "norm"),
            astuple(layer_statistics(layer)), strict=True,
        ):  # fmt: skip
            assert found[name].values[measure][0] == pytest.approx(wanted, rel=1e-4), measure


def test_recorded_grids_count(tmp_path: Path) -> None:
    layer = LocallyConnected2d(2, 3, (2, 4), 10, stride=2, padding=1)  # a period of 1 and 2
    frame, size = frame_of(layer), layer.output_size
    constants = {
        "grid": frame.grid.numpy().reshape(size),
        "interior": frame.interior.numpy().astype("u1").reshape(size),
    }
    values = {"a": layer.weight.detach().numpy()[None]}
    found = trajectory_of(write(tmp_path / "x.h5", values, ["a"], **constants))["a"].values
    assert found["grid_snr"][0] == pytest.approx(layer_statistics(layer).grid_snr, rel=1e-4)
    assert found["snr"][0] == pytest.approx(layer_statistics(layer).snr, rel=1e-4)
    without = trajectory_of(write(tmp_path / "y.h5", values, ["a"]))["a"].values
    assert without["grid_snr"][0] != pytest.approx(found["grid_snr"][0], rel=1e-2)


def test_zeros_and_changes_by_hand(tmp_path: Path) -> None:
    weight = np.zeros((3, 2, 2), np.float32)
    weight[0] = [[3, 0], [0, 4]]
    weight[1] = [[3, 1], [0, 4]]
    weight[2] = [[0, 1], [0, 0]]
    found = trajectory_of(write(tmp_path / "x.h5", {"fc": weight}, []))["fc"]
    assert found.steps.tolist() == [0, 10, 20]
    assert found.values["sparsity"].tolist() == [0.5, 0.25, 0.75]
    assert found.values["nonzero"].tolist() == [2, 3, 1]
    assert found.values["norm"] == pytest.approx([5, math.sqrt(26), 1])
    assert found.values["drift"] == pytest.approx([0, 1 / 5, math.sqrt(26) / 5])
    assert found.values["step_drift"][1:] == pytest.approx([1 / 5, 5 / math.sqrt(26)])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_diverged(tmp_path: Path, wrong: float) -> None:
    """What has no value is NaN, not a number and not an error."""
    weight = np.random.default_rng(0).normal(size=(2, 5, 5, 2, 1, 3, 3)).astype(np.float32)
    weight[1, 2, 2, 0, 0, 0, 0] = wrong
    path = write(tmp_path / "x.h5", {"a": weight}, ["a"])
    found = trajectory_of(path, radii=(1,))["a"].values
    for measure in (
        "snr",
        "spread",
        "euclidean_1",
        "cosine_1",
        "effective_rank",
        "explained_by_grids",
    ):
        assert np.isfinite(found[measure][0]), measure
        assert math.isnan(found[measure][1]), measure
    assert not np.isfinite(found["drift"][1])
    assert found["nonzero"].tolist() == [450, 450]


def test_some_snapshots_and_quantities(run_file: Path) -> None:
    found = trajectory_of(run_file, at_most=2, quantities=("drift", "distances"), radii=(2,))
    assert found["conv1"].steps.tolist() == [0, 8]
    assert set(found["conv1"].values) == {"euclidean_2", "cosine_2", "drift", "step_drift"}
    assert evenly(10, 3) == [0, 4, 9]
    assert evenly(2, 3) == [0, 1]
    assert evenly(5, 1) == [4]


def test_a_file_larger_than_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MiB of snapshots go through a few MiB of memory."""
    monkeypatch.setattr(weights, "PART_BYTES", 2**18)
    monkeypatch.setattr(trajectories, "PART_BYTES", 2**18)
    weight = np.random.default_rng(0).normal(size=(8, 8, 64, 30, 3, 3)).astype(np.float32)  # 4 MiB
    snapshots = np.broadcast_to(weight, (10, *weight.shape))
    path = write(tmp_path / "x.h5", {"a": snapshots}, ["a"])
    trajectory_of(path, quantities=("equality", "rank"))  # import what is imported late
    tracemalloc.start()
    trajectory_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * weight.nbytes


def test_decay_by_hand(run_file: Path) -> None:
    with RunReader(run_file) as run:
        curves = training_curves(run)
    spread = np.array([[4, 1], [2, 1], [np.nan, np.nan], [3, 1.5]])[..., None]  # (Z, moment, layer)
    measures = {"spread": spread, "inverse_snr": spread**2}
    curves = replace(
        curves, layers=("a",), sleeps=np.array([1, 2, 3, 4]), sleep_statistics=measures
    )
    found = sleep_decay(curves)
    assert found.steps.tolist() == [1, 2, 4]
    assert found.decay[:, 0].tolist() == [0.25, 0.5, 0.5]
    assert np.isnan(found.regrowth[[0, 2], 0]).all()  # of the sleep before nothing is known
    assert found.regrowth[1, 0] == 2
    assert found.log_snr_gain[:, 0] == pytest.approx(2 * np.log([4, 2, 2]))


# What goes wrong


def test_bad_input(run_file: Path, tmp_path: Path) -> None:
    with RunReader(run_file) as run:
        with pytest.raises(InvalidArgument, match=r"layer must be one of.*mean 'conv1'"):
            chosen_layers(run, ["conv11"])
        assert list(chosen_layers(run, ["*2", "fc"])) == ["conv2", "fc"]
        (found,) = weight_trajectories(run, "fc", Wanted("sparsity"))  # type: ignore[arg-type]
        assert (found.layer, list(found.values)) == ("fc", ["sparsity", "nonzero"])
        with pytest.raises(InvalidArgument, match="wanted must be a Wanted, got 'rank'"):
            next(weight_trajectories(run, None, "rank"))
    with pytest.raises(InvalidArgument, match=r"run must be a RunReader, got 'run.h5'"):
        training_curves("run.h5")
    with (
        RunReader(run_file) as run,
        pytest.raises(InvalidArgument, match="--quantities must be one of"),
    ):
        next(weight_trajectories(run, None, Wanted(quantities=("snr",))))
    plain = tmp_path / "plain.h5"
    train(replace(SETTINGS, record=RecordSettings()), Place(plain, device="cpu", quiet=True))
    with RunReader(plain) as run, pytest.raises(RunFileError, match="--snapshot-every"):
        recorded_layers(run)
    other = tmp_path / "study.h5"
    RunWriter(other, "convergence", {}).start()
    with RunReader(other) as run, pytest.raises(RunFileError, match="kind 'training', got 'conv"):
        recorded_layers(run)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(run_file.read_bytes()[:20_000])
    for path in (cut, tmp_path / "missing.h5"):
        with pytest.raises(RunFileError, match=path.name):
            analyze([path], AnalyzeOptions(out=tmp_path / "out", quiet=True))
    with pytest.raises(InvalidArgument, match="run files or folders with some"):
        run_files([tmp_path / "out"] if (tmp_path / "out").mkdir() is None else [])
    with pytest.raises(InvalidArgument, match="one run file or more"):
        run_files([])


# The command


def options(folder: Path, **given: Any) -> AnalyzeOptions:
    return AnalyzeOptions(out=folder, quiet=True, **given)


def test_analyze(run_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.h5"
    with RunWriter(study, kind="convergence", config={"study": "test"}) as run:
        run.scale("setting", np.arange(2))
        run.scale("trial", np.arange(3))
        run.scale("presentation", np.array([10, 20]))
        run.constant("grid/gamma", np.array([0.1, 0.01]), dims=("setting",))
        run.dataset("inverse_snr", dims=("setting", "trial", "presentation"))
        run.start()
        run.write("inverse_snr", np.exp(-np.arange(12.0)).reshape(2, 3, 2))
    found = analyze([run_file, study, run_file], options(tmp_path / "out", radii=(1, 2)))
    assert [path.name for path in found.figures] == [
        "analyze-study.png", "analyze-study.pdf", "analyze-accuracy.png", "analyze-accuracy.pdf",
        "analyze-weights.png", "analyze-weights.pdf",
    ]  # fmt: skip
    assert all(path.stat().st_size > 1000 for path in found.figures)
    assert found.table is not None
    with found.table.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"run", "study"}
    values = {
        (row["series"], row["source"], row["quantity"], float(row["time"])): row["value"]
        for row in rows
    }
    with RunReader(run_file) as run:
        curves = training_curves(run)
    recorded = float(values["conv2", "step", "snr", 5])
    assert recorded == pytest.approx(curves.statistics["snr"][2, 1])
    assert float(values["", "epoch", "top1", 2]) == pytest.approx(curves.top1[-1])
    assert float(values["conv1", "after sleep", "spread", 4]) < 1e-6
    assert values["conv1", "snapshot", "step_drift", 0] == ""
    assert float(values["conv3", "snapshot", "euclidean_2", 8]) > 0
    # The middle of exponents -6, -8, -10.
    assert float(values["γ = 0.01", "mean", "log_inverse_snr", 10]) == pytest.approx(-8)
    plain = json.loads(found.as_json())
    assert plain["runs"]["run"]["layers"]["conv1"]["euclidean_2"] > 0
    assert plain["studies"]["study"][1]["setting"] == "γ = 0.01"
    text = found.text()
    assert "euclid 2" in text
    assert "euclid 4" not in text
    with pytest.raises(InvalidArgument, match=r"exists already.*--overwrite"):
        analyze([run_file], options(tmp_path / "out"))
    analyze([run_file], options(tmp_path / "out", overwrite=True, layers=("conv1",), snapshots=1))


def test_analyze_without_weights(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Statistics are there all the same, and the option that records weights is named."""
    plain = tmp_path / "plain" / "run.h5"
    train(replace(SETTINGS, record=RecordSettings()), Place(plain, device="cpu", quiet=True))
    found = analyze([plain.parent, run_file], AnalyzeOptions(out=tmp_path / "out"))
    assert "--snapshot-every" in capsys.readouterr().err
    assert len(found.values["runs"]) == 2
    layers = found.values["runs"]["plain/run"]["layers"]
    assert layers["conv1"]["snr"] > 0
    assert "drift" not in layers["conv1"]
