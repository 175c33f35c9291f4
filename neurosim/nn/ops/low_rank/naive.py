"""The reference: form the filter bank of every position (Eq. 2) and apply it by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from neurosim.nn.ops.local.geometry import Geometry
from neurosim.nn.ops.local.naive import local_naive


def low_rank_naive(x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry) -> Tensor:
    """y[n, o, p] = I_p * F^(p), F^(p) = sum_k w_p^(k) F^(k) (Eqs. 1 and 2).

    x is (N, C, H, W), combining (K, H', W') or, of every example by itself, (N, K, H', W'), bases
    (K, O, C, kh, kw). Autograd differentiates it as it stands.
    """
    if combining.ndim == 3:
        return local_naive(x, torch.einsum("khw,koctu->hwoctu", combining, bases), geometry)
    if not len(x):  # of which there is no example to take
        return low_rank_naive(x, combining.sum(0), bases, geometry)
    examples = zip(x.split(1), combining, strict=True)
    return torch.cat([low_rank_naive(one, own, bases, geometry) for one, own in examples])
