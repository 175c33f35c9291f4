"""The engine runs where the command line, Brian2 or a place for compiled code are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import sys
for name in ("brian2", "tyro", "pooch"):
    sys.modules[name] = None                       # importing them fails
if len(sys.argv) > 1:
    import numba.core.caching as caching
    caching.CacheImpl._locator_classes = []        # nowhere to cache compiled functions

import neurosim.dynamics as nd
import experiments.common.convergence, experiments.performance.dynamics, analysis.figures
run = nd.simulate([[1.0, 2.0], [3.0, 5.0]], nd.Gaussian(2, 3, seed=1),
                  response=nd.RateCircuit(steps=4), plasticity=nd.Plasticity(1e-3))
print(*run.weights.ravel())
try:
    nd.simulate([[1.0], [2.0]], [[1.0]], response=nd.RateCircuit(), plasticity=nd.Plasticity(),
                solver="brian2")
except nd.InvalidArgument as error:
    assert "pip install brian2" in str(error), error
else:
    raise SystemExit("brian2 was there")
"""


@pytest.mark.parametrize("arguments", [[], ["no cache"]], ids=["no extras", "no cache either"])
def test_bare_machine(arguments: list[str], tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.isfinite([float(x) for x in done.stdout.split()]).all()


def test_folders_of_a_user_are_not_mistaken_for_ours(tmp_path: Path) -> None:
    """`python -m` looks into the working directory first, where many have a folder `analysis`."""
    for name in ("analysis", "experiments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    pytest.importorskip("tyro")
    done = subprocess.run(
        [sys.executable, "-m", "neurosim", "converge", "--help"], cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--alphas" in done.stdout


def test_packages_are_there_when_asked_for() -> None:
    script = (
        "import sys, neurosim\n"
        "assert 'torch' not in sys.modules\n"
        "assert neurosim.dynamics.simulate and neurosim.nn.to_local and neurosim.sweep\n"
        "assert {'nn', 'sleep', 'sweep'} <= set(dir(neurosim))\n"
        "assert not hasattr(neurosim, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
