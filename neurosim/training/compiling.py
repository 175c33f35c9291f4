"""torch.compile, for networks of which a process has many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

VARIANTS = 64


def compile_network(network: nn.Module, *, cuda_graphs: bool = False) -> Callable[[Tensor], Tensor]:
    """The network compiled for batches of one size; `cuda_graphs` replays what it starts.

    All networks of a process that are `nn.Sequential` share a function, of which the compiler makes
    eight variants and then silently runs the next one uncompiled. Here it makes more, and where it
    can be told to, says so when it gives up.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = max(VARIANTS, config.recompile_limit)
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True
    mode = "reduce-overhead" if cuda_graphs else None
    return torch.compile(network, mode=mode, dynamic=False)
