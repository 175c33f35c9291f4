"""torch.compile, for networks of which a process has many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VARIANTS = 64
CONFIG: Any = torch._dynamo.config
LIMIT = "recompile_limit" if hasattr(CONFIG, "recompile_limit") else "cache_size_limit"  # torch 2.6


def compile_network(network: nn.Module, *, cuda_graphs: bool = False) -> Callable[[Tensor], Tensor]:
    """The network compiled for batches of one size; `cuda_graphs` replays what it starts.

    All networks of a process that are `nn.Sequential` share a function, of which the compiler makes
    eight variants and then silently runs the next one uncompiled. Here it makes more, and where it
    can be told to, says so when it gives up.
    """
    setattr(CONFIG, LIMIT, max(VARIANTS, getattr(CONFIG, LIMIT)))
    if hasattr(CONFIG, "fail_on_recompile_limit_hit"):
        CONFIG.fail_on_recompile_limit_hit = True
    mode = "reduce-overhead" if cuda_graphs else None
    return torch.compile(network, mode=mode, dynamic=False)
