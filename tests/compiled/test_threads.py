"""Parts of a computation in torch's threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from neurosim.compiled import threads
from neurosim.compiled.threads import run_parts

each_kind = pytest.mark.parametrize("ours", [False, True], ids=["torch's", "own"])


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _kind(ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's threads, or threads of one's own, as where torch's cannot be called."""
    if ours:
        monkeypatch.setattr(threads, "_torch_threads", lambda: None)


@each_kind
@pytest.mark.usefixtures("_kind")
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_part_is_computed_once_and_returned_in_its_place(count: int) -> None:
    seen: list[int] = []

    def part(number: int) -> int:
        seen.append(number)
        return number**2

    assert run_parts(part, count) == [number**2 for number in range(count)]
    assert sorted(seen) == list(range(count))


@each_kind
@pytest.mark.usefixtures("_kind")
def test_parts_run_side_by_side() -> None:
    """Each of two waits for the other, which no single thread could."""
    both = threading.Barrier(2, timeout=20)
    run_parts(lambda number: both.wait(), 2)


@each_kind
@pytest.mark.usefixtures("_kind")
def test_an_exception_of_a_part_is_raised_and_the_next_call_works() -> None:
    def part(number: int) -> int:
        if number == 1:
            raise ValueError("part 1 is broken")
        time.sleep(0.01)
        return number

    with pytest.raises(ValueError, match="part 1 is broken"):
        run_parts(part, 2)
    assert run_parts(lambda number: number, 3) == [0, 1, 2]


def test_torch_has_threads_that_can_be_called() -> None:
    """On Linux, where wheels bring GNU's OpenMP; elsewhere there are threads of one's own."""
    if sys.platform != "linux":
        pytest.skip("only GNU's OpenMP is sure to have the entry point")
    code = (
        "import torch; from neurosim.compiled import threads; "
        "assert threads._torch_threads() is not None; "
        "torch.set_num_threads(2); a = torch.randn(300, 300) @ torch.randn(300, 300); "
        "print(sum(threads.run_parts(lambda n: n + 1, 2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr
