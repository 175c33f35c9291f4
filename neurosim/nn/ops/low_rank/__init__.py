"""The low-rank locally connected product, in several forms.

With P positions, N images, K banks of T weights each (T = taps C O), multiplications are

    wide     4 K N P T for a training step, forward twice       any combining weights
    local    3 N P T, and 3 K P T to form and reduce filters    those that all images share

and neither ever holds the K-fold output, nor the filters of all positions.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from neurosim.errors import InvalidArgument, require_choice
from neurosim.nn.ops.local.geometry import Geometry
from neurosim.nn.ops.low_rank.local import low_rank_local
from neurosim.nn.ops.low_rank.naive import low_rank_naive
from neurosim.nn.ops.low_rank.wide import low_rank_wide
from neurosim.nn.ops.transforms import looked_into, vmapped

FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, Geometry], Tensor]] = {
    "naive": low_rank_naive,
    "wide": low_rank_wide,
    "local": low_rank_local,
}
FEW = 16  # images: for fewer, forming filters costs more than it saves


def check_form(form: str) -> None:
    """A form is "auto" or one of `FORMS`."""
    require_choice("form", form, ("auto", *FORMS))


def choose_form(x: Tensor, combining: Tensor, bases: Tensor) -> str:
    """The faster form by shape (`experiments/performance/low_rank.py` measures where it changes).

    With a single bank both do the same work, and a convolution is the better product.
    """
    shared = combining.ndim == 3
    return "local" if shared and len(bases) > 1 and len(x) >= FEW else "wide"


def low_rank_product(
    x: Tensor, combining: Tensor, bases: Tensor, geometry: Geometry, form: str = "auto"
) -> Tensor:
    """y[n, o, p] = I_p * sum_k w_p^(k) F^(k) (Eqs. 1 and 2), in the chosen form.

    x is (N, C, H, W), combining (K, H', W') or, of every example by itself, (N, K, H', W'), bases
    (K, O, C, kh, kw).
    """
    check_form(form)
    if form == "local" and combining.ndim == 4:
        raise InvalidArgument(
            'form "local" needs combining weights that all examples share, got those of every '
            'example by itself: use "wide"'
        )
    if form != "naive" and (vmapped() or looked_into(x, combining, bases)):
        if form != "auto":
            raise InvalidArgument(
                f'form "{form}" is unknown to torch.func and to derivatives in forward mode: use '
                '"naive"'
            )
        form = "naive"
    return FORMS[choose_form(x, combining, bases) if form == "auto" else form](
        x, combining, bases, geometry
    )
