"""What numba keeps of compiled functions, and when that is old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CALLED = """
from neurosim.compiled import compiled

@compiled
def called(x):
    return x + {number}
"""
CALLS = """
from called import called
from neurosim.compiled import compiled
from neurosim.progress import notices

@compiled
def calls(x):
    return called(x)

said = []
with notices(said.append):
    found = calls(1)
print(found, sum(calls.stats.cache_hits.values()), len(said))
"""


def test_a_change_of_what_is_called_is_noticed(tmp_path: Path) -> None:
    """numba itself looks at the file of the calling function only; who waits is told why, once."""

    def run(number: int) -> list[str]:
        (tmp_path / "called.py").write_text(CALLED.format(number=number))
        (tmp_path / "calls.py").write_text(CALLS)
        os.utime(tmp_path / "calls.py", (1, 1))
        os.utime(tmp_path / "called.py", (number, number))
        done = subprocess.run(
            [sys.executable, "calls.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run(10) == ["11", "0", "1"]
    assert run(10) == ["11", "1", "0"]
    assert run(20) == ["21", "0", "1"]


def test_everything_runs_in_the_interpreter_if_numba_is_told_to() -> None:
    """NUMBA_DISABLE_JIT=1 is how one looks into compiled functions with a debugger."""
    code = (
        "import numpy as np, torch\n"
        "from neurosim.dynamics import Gaussian, Plasticity, RateCircuit, simulate\n"
        "from neurosim.nn import LocallyConnected2d\n"
        "from neurosim.sleep import Circuit, share\n"
        "weights = np.random.default_rng(0).normal(1, 1, (5, 4))\n"
        "how = {'response': RateCircuit(), 'plasticity': Plasticity()}\n"
        "print(simulate(weights, Gaussian(4, 3), **how).weights.sum().round(9))\n"
        "torch.manual_seed(0)\n"
        "layer = LocallyConnected2d(2, 3, 2, 4, dtype=torch.float64)\n"
        "share(layer, Circuit(presentations=2))\n"
        "print(layer(torch.ones(1, 2, 4, 4, dtype=torch.float64)).sum().item().__round__(9))\n"
    )
    home = str(Path(__file__).parents[2])
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": home, "NUMBA_DISABLE_JIT": jit},
        ).stdout
        for jit in ("0", "1")
    ]  # fmt: skip
    assert found[0] == found[1] != ""
