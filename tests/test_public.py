"""The names that users import, pinned: removing one is a decision, not an accident."""

from __future__ import annotations

import ast
from pathlib import Path

import neurosim.dynamics
import neurosim.nn
import neurosim.recording

ROOT = Path(__file__).parents[1]
DYNAMICS = """
    Brian2 Collapsed Constant Continuous Diverged Euler Gaussian Given Independent InputStream
    InstantResponse InvalidArgument InverseSqrt InverseTime OneHot Plasticity RateCircuit Rates
    Response Setting StabilityError Trajectory Transfer check_setting check_stability simulate
    simulate_ensemble theory transfer
"""


def exported(module: object) -> set[str]:
    """Names that a package exports explicitly (import X as X)."""
    tree = ast.parse(Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname for node in imports for alias in node.names if alias.asname}


def test_public_names() -> None:
    assert exported(neurosim.dynamics) == set(DYNAMICS.split())
    assert {"RunReader", "RunWriter", "Status"} <= exported(neurosim.recording)
    layers = {f"LocallyConnected{d}d" for d in (1, 2, 3)}
    assert {*layers, "to_local", "to_conv", "pointwise"} <= exported(neurosim.nn)


def test_one_direction() -> None:
    """Lower levels do not import higher ones; only the command line knows its library."""
    allowed = {
        "neurosim/dynamics": {"neurosim.dynamics", "neurosim.errors"},
        "neurosim/recording": {"neurosim", "neurosim.recording", "neurosim.errors"},
        "neurosim/nn": {"neurosim.nn", "neurosim.errors"},
        "neurosim/models": {"neurosim.models", "neurosim.nn", "neurosim.errors"},
        "analysis": {"analysis", "neurosim.recording", "neurosim.errors"},
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


def imports_of(path: Path) -> list[str]:
    """Modules that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names
