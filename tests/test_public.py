"""The names that users import, pinned: removing one is a decision, not an accident."""

from __future__ import annotations

import ast
from pathlib import Path

import neurosim.data
import neurosim.dynamics
import neurosim.nn
import neurosim.optim
import neurosim.recording
import neurosim.sleep
import neurosim.training

ROOT = Path(__file__).parents[1]
DYNAMICS = """
    Brian2 Collapsed Constant Continuous Diverged Euler Gaussian Given Independent InputStream
    InstantResponse InvalidArgument InverseSqrt InverseTime OneHot Plasticity RateCircuit Rates
    Response Setting StabilityError Trajectory Transfer check_setting check_stability simulate
    simulate_ensemble simulate_setting theory transfer
"""
SLEEP = """
    AtSteps BelowSNR Circuit EveryBatches EveryEpochs Hebbian Instant LayerStatistics Patterns
    Schedule Sleep Slept Tiles frame_of layer_statistics local_layers share share_moments
"""
TRAINING = """
    DataSettings NetworkSettings OptimisationSettings Place RecordSettings Result SleepSettings
    TrainSettings train
"""


def exported(module: object) -> set[str]:
    """Names that a package exports explicitly (import X as X)."""
    tree = ast.parse(Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname for node in imports for alias in node.names if alias.asname}


def test_public_names() -> None:
    assert exported(neurosim.dynamics) == set(DYNAMICS.split())
    recording = {"BackgroundWriter", "RunReader", "RunWriter", "Status"}
    assert recording <= exported(neurosim.recording)
    assert set(SLEEP.split()) <= exported(neurosim.sleep)
    assert set(TRAINING.split()) <= exported(neurosim.training)
    assert {"DATASETS", "Augment", "Dataset", "Loader", "load"} <= exported(neurosim.data)
    layers = {f"LocallyConnected{d}d" for d in (1, 2, 3)}
    conversions = {f"to_{kind}" for kind in ("local", "conv", "dense", "low_rank", "sparse")}
    assert {*layers, *conversions, "pointwise", "low_rank_of"} <= exported(neurosim.nn)
    relatives = {"Dense", "SparseLinear", "LowRankLocal2d", "Bank"}
    assert {*relatives, "PermutePixels", "arrange", "restrict"} <= exported(neurosim.nn)
    optimizers = {"Adam", "AdamW", "BetaLasso"}
    assert exported(neurosim.optim) == {*optimizers, "BACKENDS", "lasso_groups", "step_in_backward"}


def test_one_direction() -> None:
    """Lower levels do not import higher ones; only the command line knows its library."""
    allowed = {
        "neurosim/compiled": {"neurosim.compiled", "neurosim.progress"},
        "neurosim/dynamics": {"neurosim.dynamics", "neurosim.compiled", "neurosim.errors"},
        "neurosim/recording": {"neurosim", "neurosim.recording", "neurosim.errors"},
        "neurosim/nn": {"neurosim.nn", "neurosim.compiled", "neurosim.errors"},
        "neurosim/models": {"neurosim.models", "neurosim.nn", "neurosim.errors"},
        "neurosim/optim": {"neurosim.optim", "neurosim.compiled", "neurosim.errors"},
        "neurosim/data": {"neurosim.data", "neurosim.errors", "neurosim.progress"},
        "neurosim/sleep": {
            "neurosim.sleep",
            "neurosim.compiled",
            "neurosim.dynamics",
            "neurosim.nn",
            "neurosim.errors",
            "neurosim.progress",
        },
        "neurosim/training": {
            "neurosim.training",
            "neurosim.sleep",
            "neurosim.dynamics",
            "neurosim.nn",
            "neurosim.models",
            "neurosim.optim",
            "neurosim.data",
            "neurosim.recording",
            "neurosim.errors",
            "neurosim.progress",
        },
        "neurosim/sweeps": {
            "neurosim",
            "neurosim.sweeps",
            "neurosim.recording",
            "neurosim.errors",
            "neurosim.files",
            "neurosim.progress",
        },
        "analysis": {
            "analysis",
            "neurosim.recording",
            "neurosim.sweeps",
            "neurosim.compiled",
            "neurosim.errors",
            "neurosim.files",
            "neurosim.progress",
        },
    }
    for folder, known in allowed.items():
        for path in (ROOT / folder).rglob("*.py"):
            for name in imports_of(path):
                if name.split(".")[0] in ("neurosim", "analysis", "experiments"):
                    package = ".".join(name.split(".")[:2])
                    assert package in known or name.split(".")[0] in known, f"{path}: {name}"
    users = {
        path.relative_to(ROOT).as_posix()
        for top in ("neurosim", "analysis", "experiments")
        for path in (ROOT / top).rglob("*.py")
        if any(name.split(".")[0] == "tyro" for name in imports_of(path))
    }
    assert users == {"neurosim/cli.py"}


def test_papers_do_not_know_commands() -> None:
    """Commands use experiments; both use what is common to them, which knows neither."""
    papers = ("dynamic_sharing", "low_rank", "free_conv", "beta_lasso")
    unknown = dict.fromkeys(papers, ("commands",)) | {"common": (*papers, "commands")}
    for folder, others in unknown.items():
        refused = tuple(f"experiments.{other}" for other in others)
        for path in (ROOT / "experiments" / folder).rglob("*.py"):
            for name in imports_of(path):
                assert not name.startswith(refused), f"{path}: {name}"


def imports_of(path: Path) -> list[str]:
    """Modules that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names
