"""Parts of a computation in torch's threads."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

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
    assert sorted(run_parts(lambda number: both.wait(), 2)) == [0, 1]  # who came first, and last


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


@each_kind
@pytest.mark.usefixtures("_kind")
def test_a_part_may_have_parts() -> None:
    found = run_parts(lambda number: run_parts(lambda inner: (number, inner), 3), 2)
    assert found == [[(number, inner) for inner in range(3)] for number in range(2)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # raised again
def test_an_interrupt_is_raised_and_no_result_is_left_out() -> None:
    """Ctrl-C at any moment: either it is raised here, or it came when all was done."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer that sends signals")

    def interrupt(*_: object) -> None:
        sent.append(True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # Python drops what is raised in a callback of the collector, such as hypothesis'
    try:
        for number in range(300):
            sent: list[bool] = []
            done = None
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 60))
                done = run_parts(lambda part: part + 1, 4)
                while not sent:
                    time.sleep(1e-5)
                pytest.fail("an interrupt was dropped")
            except KeyboardInterrupt:
                assert done in (None, [1, 2, 3, 4])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


SIDE_BY_SIDE = """
import threading, torch
from neurosim.nn import LocallyConnected2d
torch.set_num_threads(2)
layer = LocallyConnected2d(5, 6, 3, 12, padding=1)
x = torch.randn(9, 5, 12, 12)
wanted = layer(x)
found = [[] for _ in range(3)]
def work(mine):
    for _ in range(50):
        mine.append(torch.equal(layer(x), wanted))
users = [threading.Thread(target=work, args=(mine,)) for mine in found]
for user in users: user.start()
for user in users: user.join()
print(sum(map(sum, found)))
"""
IN_TORCH = """
import torch
from neurosim.compiled import threads
torch.set_num_threads(2)
torch.randn(300, 300) @ torch.randn(300, 300)
print(threads._torch_threads() is not None, sum(threads.run_parts(lambda n: n + 1, 2)))
"""


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_layers_may_be_used_by_several_threads_at_once() -> None:
    assert printed(SIDE_BY_SIDE) == "150"


def test_torch_has_threads_that_can_be_called() -> None:
    """Where its OpenMP lies beside it, as in wheels for Linux; else threads are our own."""
    beside = Path(torch.__file__).resolve().parent.glob("lib/libgomp*")
    if sys.platform != "linux" or not any(beside):
        pytest.skip("this torch brings no OpenMP of GNU's")
    assert printed(IN_TORCH) == "True 3"
