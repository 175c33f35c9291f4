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
