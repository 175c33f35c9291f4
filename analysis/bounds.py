"""How well a network must generalise by the length of its description (Neyshabur 2020, Sec. 3).

Lengths are in bits. Losses are those of single examples between 0 and 1, such as the share of
wrong answers. A bound of 1 or more says nothing; bounds of networks with more weights than a few
per example are of that kind, and what they compare are the lengths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neurosim.errors import require
from neurosim.recording import RunReader


def theorem1(loss: float, length: float, samples: int, delta: float = 0.05) -> float:
    """L_D <= L_S + sqrt((|d(h)| + log(2 / delta)) / (2 m)), with probability 1 - delta (Eq. 1).

    For any prefix-free description language d that was chosen before the m samples were seen.
    """
    _check(loss, samples, delta)
    require(length >= 0, "length", length, ">= 0")
    return loss + math.sqrt((length + math.log(2 / delta)) / (2 * samples))


def theorem2(
    loss: float,
    parameters: int,
    map_length: float,
    total: int,
    samples: int,
    delta: float = 0.05,
    bits: int = 32,
) -> float:
    """L_D <= L_S + sqrt((k b + |d(g)| + log(2 n / delta)) / (2 m)) (Eq. 2).

    An architecture was searched for: of at most n = `total` weights, each is one of k =
    `parameters` numbers of b bits, and d(g) describes which.
    """
    _check(loss, samples, delta)
    require(1 <= parameters <= total, "parameters", parameters, f"from 1 to total = {total}")
    require(map_length >= 0, "map_length", map_length, ">= 0")
    require(bits >= 1, "bits", bits, ">= 1")
    length = parameters * bits + map_length
    return loss + math.sqrt((length + math.log(2 * total / delta)) / (2 * samples))


def map_length(nonzeros: int, parameters: int, total: int) -> float:
    """|d(g)| <= |w|_0 log(k n) + 2 log n, of some prefix-free language for sharing (Theorem 2).

    For every non-zero weight its number among n and which of k parameters it has, after both
    counts.
    """
    require(total >= 1, "total", total, ">= 1")
    require(0 <= nonzeros <= total, "nonzeros", nonzeros, f"from 0 to total = {total}")
    require(1 <= parameters <= total, "parameters", parameters, f"from 1 to total = {total}")
    return nonzeros * math.log2(parameters * total) + 2 * math.log2(total)


def subset_length(nonzeros: int, total: int) -> float:
    """Bits to say which of n weights are not zero: log2 of the number of subsets of that size.

    Shorter than Theorem 2's map where every weight is a parameter of its own (k = |w|_0), for the
    order of parameters may then be that of weights. And the size itself, log2(n + 1).
    """
    require(0 <= nonzeros <= total, "nonzeros", nonzeros, f"from 0 to total = {total}")
    log = math.lgamma(total + 1) - math.lgamma(nonzeros + 1) - math.lgamma(total - nonzeros + 1)
    return log / math.log(2) + math.log2(total + 1)


@dataclass(frozen=True)
class Description:
    """How long a trained network's description is, and what follows for its error."""

    total: int  # weights of its architecture, n
    nonzeros: int  # that training left, |w|_0
    dense: float  # bits of all weights
    mapped: float  # bits by Theorem 2: the non-zero ones, and where they are
    subset: float  # bits with the shortest way to say where they are
    theorem1: float  # bound on the error from `dense`
    theorem2: float  # from `mapped`
    theorem1_subset: float  # from `subset`


def describe(
    total: int, nonzeros: int, loss: float, samples: int, delta: float = 0.05, bits: int = 32
) -> Description:
    """Bounds for a network without sharing that has lost all but some of its weights."""
    kept = max(nonzeros, 1)
    where, subset = map_length(nonzeros, kept, total), subset_length(nonzeros, total)
    return Description(
        total,
        nonzeros,
        dense=float(total * bits),
        mapped=kept * bits + where,
        subset=nonzeros * bits + subset,
        theorem1=theorem1(loss, total * bits, samples, delta),
        theorem2=theorem2(loss, kept, where, total, samples, delta, bits),
        theorem1_subset=theorem1(loss, nonzeros * bits + subset, samples, delta),
    )


def describe_run(run: RunReader, loss: float, samples: int, delta: float = 0.05) -> Description:
    """The same for the weights of a training run at its last record (`--nonzeros`)."""
    known = "nonzeros" in run.names() and len(run["nonzeros"]) > 0
    require(known, str(run.path), "a run without", "one that has recorded --nonzeros")
    return describe(
        int(run["parameters"].sum()), int(run["nonzeros"][-1].sum()), loss, samples, delta
    )


def _check(loss: float, samples: int, delta: float) -> None:
    require(0 <= loss <= 1, "loss", loss, "from 0 to 1")
    require(samples >= 1, "samples", samples, ">= 1")
    require(0 < delta < 1, "delta", delta, "between 0 and 1")
