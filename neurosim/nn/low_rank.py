"""Low-rank local connectivity: between convolution and locally connected (Elsayed et al. 2020).

The filter bank at position (i, j) combines K banks that all positions share,

    F^(i,j) = sum_k w_ij^(k) F^(k)                                                  (Eq. 2)

so that K = 1 is a convolution, and K = H W a locally connected layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument, require, require_choice, require_instance
from neurosim.nn.banks import Aligned, Bank, aligned, structures
from neurosim.nn.combine import (
    INITS,
    NORMALISATIONS,
    SHARINGS,
    CombiningInit,
    FixedWeights,
    InputWeights,
    Normalisation,
    Sharing,
    SpatialBias,
)
from neurosim.nn.local import LocallyConnected2d, Size, keeping_order, lowered
from neurosim.nn.ops.low_rank import check_form, low_rank_product


class LowRankLocal2d(nn.Module):
    """A locally connected layer whose filters are combinations of K banks.

    Arguments up to `bias` mean what they mean for `nn.Conv2d`, and besides:

    Args:
        kernel_size: of all banks; or, for a basis of mixed structure, one `Bank` for each, with
            padding "same".
        input_size: spatial size of the input, which fixes the number of output positions.
        rank: K, from 1 to the number of output positions.
        bias: whether there is a bias per channel; batch norm makes it superfluous.
        spatial_bias: whether there is a bias per position (Eq. 5): of rows and columns, or of
            every position where the combining weights are not of rows or columns either.
        sharing: of fixed combining weights: "row+column" (Eq. 3; the default), "row", "column",
            or a full table, "position".
        normalisation: of a position's weights: "softmax" (Eq. 4), L2 "norm" or "none".
        init: fixed combining weights start as "conv", all equal, or "random".
        input_dependent: whether a light network predicts them for every example (Eq. 6).
        form: of the product: "auto", "wide" (one convolution, then a weighted sum), "local" (the
            filters of a few rows at a time; fixed weights only) or "naive" (the reference).
    """

    axes = 2
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size | Sequence[Bank],
        input_size: Size,
        rank: int,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        bias: bool = True,
        *,
        spatial_bias: bool = True,
        sharing: Sharing | None = None,
        normalisation: Normalisation = "softmax",
        init: CombiningInit = "conv",
        input_dependent: bool = False,
        form: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_choice("normalisation", normalisation, NORMALISATIONS)
        require_choice("init", init, INITS)
        check_form(form)
        switches = {"bias": bias, "spatial_bias": spatial_bias, "input_dependent": input_dependent}
        for name, value in switches.items():
            require_instance(name, value, bool)
        sharing = _sharing(sharing, input_dependent)
        banks = structures(kernel_size, dilation, rank, padding)
        options = {"device": device, "dtype": dtype}
        self.in_channels, self.out_channels = in_channels, out_channels
        self.rank, self.form = rank, form
        self.sharing: Sharing = sharing
        self.normalisation: Normalisation = normalisation
        self.input_dependent = input_dependent

        # Banks of one structure are computed together; `shapes` are layers without memory.
        kinds = list(dict.fromkeys(banks))
        shapes = [
            LocallyConnected2d(
                in_channels, out_channels, kind.kernel_size, input_size, stride, padding,  # type: ignore[arg-type]
                kind.dilation, bias=False, device="meta", dtype=dtype,
            )
            for kind in kinds
        ]  # fmt: skip
        self.geometries = [shape.geometry for shape in shapes]
        self.input_size, self.output_size = shapes[0].input_size, shapes[0].output_size
        self.stride, self.padding = shapes[0].stride, shapes[0].padding
        positions = math.prod(self.output_size)
        fits = rank <= positions
        require(fits, "rank", rank, f"at most H W = {positions}, the number of output positions")
        if form == "local" and input_dependent:
            raise InvalidArgument('form must be "wide" for input-dependent weights, got "local"')

        # Which of the K combining weights belong to each kind's banks.
        self.members = [[k for k, bank in enumerate(banks) if bank == kind] for kind in kinds]
        self.bases = nn.ParameterList(
            torch.empty(len(members), out_channels, in_channels, *shape.kernel_size, **options)
            for members, shape in zip(self.members, shapes, strict=True)
        )
        size: tuple[int, int] = self.output_size  # type: ignore[assignment]
        if input_dependent:
            inside: tuple[int, int] = self.input_size  # type: ignore[assignment]
            self.combine = InputWeights(rank, in_channels, inside, size, normalisation, **options)
        else:
            self.combine = FixedWeights(rank, size, sharing, normalisation, init, **options)
        factorised: Sharing = "position" if sharing == "position" else "row+column"
        self.spatial_bias = SpatialBias(size, factorised, **options) if spatial_bias else None
        offsets = nn.Parameter(torch.empty(out_channels, **options)) if bias else None
        self.register_parameter("bias", offsets)
        filters, self.dilation, _ = self.aligned()
        self.kernel_size = tuple(filters.shape[3:])  # that holds all banks
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Banks He-uniform, each by itself; biases 0."""
        for basis in self.bases:
            bound = math.sqrt(6 / math.prod(basis.shape[2:]))
            basis.uniform_(-bound, bound)
        self.combine.reset_parameters()
        if self.spatial_bias is not None:
            self.spatial_bias.reset_parameters()
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, C, *input_size) -> (N, O, *output_size), or both without N."""
        x, expected = input, (self.in_channels, *self.input_size)
        batched = x.ndim == 4
        if x.ndim not in (3, 4) or tuple(x.shape[-3:]) != expected:
            raise InvalidArgument(
                f"input of LowRankLocal2d must be of shape {expected}, with or without a batch "
                f"axis before it, got {tuple(x.shape)}"
            )
        if not batched:
            x = x.unsqueeze(0)
        combining, bases = self.combine(x), list(self.bases)
        x, combining, *bases = lowered(x, combining, *bases)
        if x.dtype != bases[0].dtype:
            raise InvalidArgument(
                f"input of LowRankLocal2d must have its dtype {bases[0].dtype}, got {x.dtype}"
            )
        y = None
        parts = zip(self.members, bases, self.geometries, strict=True)
        for members, basis, geometry in parts:
            own = combining if len(bases) == 1 else combining[..., members, :, :]
            part = low_rank_product(x, own, basis, geometry, self.form)
            y = part if y is None else y + part
        assert y is not None
        offsets = self.offsets()
        y = y if offsets is None else y + lowered(x, offsets)[1]
        return y if batched else y.squeeze(0)

    def offsets(self) -> Tensor | None:
        """The bias, broadcastable to (O, H', W'); None without any (Eq. 5)."""
        channel = None if self.bias is None else self.bias[:, None, None]
        if self.spatial_bias is None:
            return channel
        return self.spatial_bias() if channel is None else self.spatial_bias() + channel

    def combining(self) -> Tensor:
        """Fixed combining weights as images, (K, H', W')."""
        if not isinstance(self.combine, FixedWeights):
            raise InvalidArgument(
                "combining weights must be fixed to be known without an input, got a layer whose "
                "weights depend on it"
            )
        return self.combine()

    def aligned(self) -> Aligned:
        """All banks in one kernel."""
        return aligned(self.bases, self.members, self.geometries)

    @torch.no_grad()
    def expanded(self, backend: str = "auto") -> LocallyConnected2d:
        """The locally connected layer with the same outputs; for fixed combining weights."""
        combining = self.combining()
        filters, dilation, before = self.aligned()
        padding: Size | str = self.padding if self.padding == "same" else before
        offsets = self.offsets()
        bias = False if offsets is None else True if self.spatial_bias is None else "position"
        layer = LocallyConnected2d(
            self.in_channels, self.out_channels, self.kernel_size, self.input_size, self.stride,
            padding, dilation, bias=bias, backend=backend, init=lambda weight: None,  # type: ignore[arg-type]
            device=filters.device, dtype=filters.dtype,
        )  # fmt: skip
        layer.init = "independent"  # what a later reset_parameters does
        layer.weight.copy_(torch.einsum("khw,koctu->hwoctu", combining, filters))
        if layer.bias is not None and offsets is not None:
            whole = offsets.expand(self.out_channels, *self.output_size)
            layer.bias.copy_(whole if bias == "position" else whole[:, 0, 0])
        return layer.train(self.training)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move and cast parameters, but keep their order when a model becomes channels-last."""
        return super()._apply(keeping_order(fn), recurse)

    def extra_repr(self) -> str:
        """The arguments that matter most."""
        kernels = ", ".join(str(g.kernel_size) for g in self.geometries)
        weights = "input-dependent" if self.input_dependent else self.sharing
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={kernels}, "
            f"input_size={self.input_size}, rank={self.rank}, stride={self.stride}, "
            f"padding={self.padding!r}, combining={weights}, {self.normalisation}"
        )


def _sharing(sharing: Sharing | None, input_dependent: bool) -> Sharing:
    if sharing is not None:
        require_choice("sharing", sharing, SHARINGS)
    if input_dependent:
        allowed = '"position" or None for input-dependent weights, which no rows or columns share'
        require(sharing in (None, "position"), "sharing", sharing, allowed)
        return "position"
    return sharing or "row+column"
