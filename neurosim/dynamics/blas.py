"""Keeps matrix products to one thread each while populations are simulated.

The products are small, and an ensemble already has one population on every core. One thread
also makes their rounding independent of the number of cores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_entered = 0
_limit: Any = None


@cache
def _controller() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  (the library that compiled products call)

    return ThreadpoolController()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Limit BLAS to one thread; may be entered from many threads, the last one out restores."""
    global _entered, _limit
    with _lock:
        if _entered == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _entered += 1
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if _entered == 0:
                _limit.__exit__(None, None, None)
