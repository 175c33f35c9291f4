"""Tests run in as many processes as there are cores: each computes on one."""

from __future__ import annotations

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read when torch and numpy are first imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pretend-gpu", action="store_true", help="run tests marked gpu without one, in CPU memory"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--pretend-gpu"):
        import pretended_gpu

        pretended_gpu.install()
