"""Tests run in as many processes as there are cores: each computes on one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read when torch and numpy are first imported


# Some versions of torch want it for deterministic products on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pretend-gpu", action="store_true", help="run tests marked gpu without one, in CPU memory"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--pretend-gpu"):
        import pretended_gpu

        pretended_gpu.install()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On small tensors threads would only wait for each other."""
    if (torch := sys.modules.get("torch")) is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _untuned() -> None:
    """On a GPU, run kernels as their first configuration has it: to try all takes most of an hour.

    `test_triton.py` compares the configurations.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not find_spec("triton"):
        return
    import torch

    if torch.cuda.is_available() and "pretended_gpu" not in sys.modules:
        from neurosim.nn.ops.local import triton as kernels

        for name in ("forward", "input_gradient", "weight_gradient"):
            kernel = getattr(kernels, f"_{name}_kernel")
            kernel.configs = kernel.configs[:1]
