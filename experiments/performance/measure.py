"""Time and memory of torch's work on a device, as benchmarks of layers and networks take them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MIB = 2**20


def interleaved(works: Sequence[Callable[[], Any]], repeats: int, device: str) -> list[float]:
    """Milliseconds of the fastest of `repeats` calls of each, taken in turn.

    On a GPU a call is measured as one of ten, so that launching is hidden as it is in training.
    """
    best = [float("inf")] * len(works)
    calls = 1 if device == "cpu" else 10
    for repeat in range(repeats + 1):  # the first round warms up
        for index, work in enumerate(works):
            start = time.perf_counter()
            for _ in range(calls if repeat else 1):
                work()
            if device != "cpu":
                torch.cuda.synchronize()
            if repeat:
                best[index] = min(best[index], 1e3 * (time.perf_counter() - start) / calls)
    return best


def captured(work: Callable[[], Any], device: str) -> Callable[[], Any]:
    """On a GPU the work's kernels as one graph, so that nobody times how Python starts them."""
    if device == "cpu":
        return work
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):  # kernels are compiled and tuned before anything is captured
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def peak_memory(work: Callable[[], Any], device: str) -> float:
    """MiB of live tensors at the worst moment of a call, beyond those alive before it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events: Any = recorded.profiler
    moments = [e for e in events.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(moments, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / MIB


def limits(device: str, dtype: torch.dtype, repeats: int) -> tuple[float, float]:
    """What the machine can do: GFLOP/s of a large product and GB/s of a large copy."""
    n = 2048 if device == "cpu" else 8192
    a = torch.randn(n, n, dtype=dtype, device=device)
    source, target = (torch.zeros(2**26, device=device) for _ in range(2))
    works = (lambda: a @ a, lambda: target.copy_(source))
    product, copy = interleaved(works, repeats, device)
    return 2 * n**3 / product / 1e6, 2 * source.nbytes / copy / 1e6
