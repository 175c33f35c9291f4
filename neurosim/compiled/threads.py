"""Parts of a computation side by side, in the threads that torch computes with.

Threads of one's own would compete with torch's, which wait for its next operation by spinning:
on two cores that costs a third of the speed.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_info

T = TypeVar("T")
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def run_parts(part: Callable[[int], T], count: int) -> list[T]:
    """`[part(0), ..., part(count - 1)]`, by as many threads as torch uses, whichever is free.

    Parts are meant to spend their time outside the interpreter lock. The first exception of a
    part is raised here.
    """
    threads = min(count, torch.get_num_threads())
    if threads < 2:
        return [part(number) for number in range(count)]
    parallel = _torch_threads()
    if parallel is None:
        return list(_pool(threads).map(part, range(count)))
    results: list[Any] = [None] * count
    faults: list[BaseException] = []
    numbers = itertools.count()

    def work(_: object) -> None:
        while not faults and (number := next(numbers)) < count:
            try:
                results[number] = part(number)
            except BaseException as fault:  # which must not leave the thread
                faults.append(fault)

    parallel(_WORK(work), None, threads, 0)
    if faults:
        raise faults[0]
    return results


@cache
def _torch_threads() -> Callable[..., None] | None:
    """`GOMP_parallel(function, data, threads, flags)` of torch's own OpenMP library, if it has one.

    GNU's library has this entry point, and Intel's and LLVM's have it on Linux.
    """
    ours = Path(torch.__file__).parent
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
