"""Parts of a computation side by side, in the threads that torch computes with.

Threads of one's own would compete with torch's, which wait for its next operation by spinning:
on two cores that costs a third of the speed.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_info

T = TypeVar("T")
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_inside = threading.local()


def run_parts(part: Callable[[int], T], count: int) -> list[T]:
    """`[part(0), ..., part(count - 1)]`, by as many threads as torch uses, whichever is free.

    Parts are meant to spend their time outside the interpreter lock, and to leave torch's tensors
    alone: its modes, such as `no_grad`, are not set in other threads. An exception of a part is
    raised here; of several, any one. A part that calls this has its own parts one by one.
    """
    threads = torch.get_num_threads()
    if min(count, threads) < 2 or getattr(_inside, "part", False):
        return [part(number) for number in range(count)]

    def alone(number: int) -> T:
        _inside.part = True
        try:
            return part(number)
        finally:
            _inside.part = False

    parallel = _torch_threads()
    if parallel is None:
        return list(_pool(threads).map(alone, range(count)))
    results: list[Any] = [None] * count
    faults: list[BaseException] = []
    entered: set[int] = set()
    numbers = itertools.count()

    def work(_: object) -> None:
        try:
            entered.add(threading.get_ident())
            while not faults and (number := next(numbers)) < count:
                results[number] = alone(number)
        except BaseException as fault:  # which must not leave the thread
            faults.append(fault)

    # All of torch's threads, even for fewer parts: a smaller team would end the others.
    parallel(_WORK(work), None, threads, 0)
    if threading.get_ident() not in entered:  # an interrupt before the first line is dropped
        raise KeyboardInterrupt
    if faults:
        raise faults[0]
    return results


@cache
def _torch_threads() -> Callable[..., None] | None:
    """`GOMP_parallel(function, data, threads, flags)` of torch's own OpenMP library, if it has one.

    GNU's library has this entry point, and Intel's and LLVM's have it on Linux.
    """
    ours = Path(torch.__file__).resolve().parent
    for library in threadpool_info():
        path = Path(library["filepath"])
        if library["user_api"] == "openmp" and (
            ours in path.parents or "torch" in path.parent.name
        ):
            parallel = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
            if parallel is not None:
                parallel.argtypes = [_WORK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
                parallel.restype = None
                return parallel
    return None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="neurosim")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # which has none of these threads
