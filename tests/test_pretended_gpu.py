"""Without a GPU: what is marked `gpu` and needs no kernel of its own runs on a pretended one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

REFUSALS = """
import pytest, torch, pretended_gpu
pretended_gpu.install()
x, here = torch.arange(3.0, device="cuda"), torch.arange(3.0)
drawn, there = torch.Generator().manual_seed(1), torch.Generator("cuda").manual_seed(1)
for refused, kind in [
    (lambda: x + here, RuntimeError),
    (lambda: torch.nn.Linear(3, 2)(x), RuntimeError),
    (lambda: torch.nn.Linear(3, 2).to("cuda")(here), RuntimeError),
    (lambda: here[(x > 0)], RuntimeError),
    (lambda: torch.cat([x, here]), RuntimeError),
    (lambda: torch.randn(3, device="cuda", generator=drawn), RuntimeError),
    (lambda: torch.randn(3, generator=there), RuntimeError),
    (lambda: x.numpy(), TypeError),
]:
    with pytest.raises(kind):
        refused()
assert (x + 1).is_cuda and (x * here.to(x)).device == x.device and x[here > 0].is_cuda
assert x.cpu().numpy().tolist() == x.tolist() == here.tolist() and not x.cpu().is_cuda
noise = torch.randn(3, device="cuda", generator=there)
assert noise.tolist() == torch.randn(3, generator=drawn).tolist()
weight = torch.ones(3, device="cuda", requires_grad=True)
(weight * x).square().sum().backward()
assert weight.grad.is_cuda and weight.grad.tolist() == [0, 2, 8]
print("refused")
"""

THREADS = """
import sys, threading, torch, pretended_gpu
pretended_gpu.install()
sys.setswitchinterval(1e-6)
weight, x = (torch.ones(8, 8, device="cuda", requires_grad=grad) for grad in (True, False))
done = threading.Event()
def leave():
    while not done.is_set():
        assert not x.cpu().is_cuda
thread = threading.Thread(target=leave)
thread.start()
try:
    for _ in range(300):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = (x @ weight).float().sum()
        loss.backward()
finally:
    done.set()
    thread.join()
print("trained")
"""


def python(*arguments: str) -> str:
    """A process of its own: a pretended GPU does not go away."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_refuses_what_a_gpu_refuses() -> None:
    assert python("-c", REFUSALS).split() == ["refused"]


def test_tensors_that_leave_in_one_thread_take_none_of_another_with_them() -> None:
    assert python("-c", THREADS).split() == ["trained"]


def test_what_is_marked_gpu() -> None:
    """As many tests as there are, so that none drops out unseen."""
    files = ["sleep/test_sleep_gpu", "training/test_training_gpu", "nn/test_low_rank"]
    paths = [str(HERE / f"{name}.py") for name in (*files, "data/test_loader")]
    options = ["-q", "-n0", "-W", "ignore", "-p", "no:cacheprovider", "--pretend-gpu", "-m", "gpu"]
    printed = python("-m", "pytest", *options, *paths)
    assert int(printed.rsplit(" passed", 1)[0].split()[-1]) >= 46
