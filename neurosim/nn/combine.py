"""Where the combining weights of a low-rank locally connected layer come from (Sec. 3.2).

    fixed             w~_ij = alpha_i + beta_j (Eq. 3), either of them alone, or a table
    input-dependent   w~_ij = g_ij(I) (Eq. 6, App. B)

each normalised over the K banks of a position (Eq. 4), and a bias that varies in space (Eq. 5).
Equations are those of Elsayed et al. 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Sharing = Literal["row+column", "row", "column", "position"]
Normalisation = Literal["softmax", "norm", "none"]
CombiningInit = Literal["conv", "random"]
Size = tuple[int, int]

SHARINGS = ("row+column", "row", "column", "position")
NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda raw: raw.softmax(-3),  # Eq. 4
    "norm": lambda raw: functional.normalize(raw, dim=-3),
    "none": lambda raw: raw,
}
INITS = ("conv", "random")
DILATIONS = (1, 2, 4, 8)


def axes_of(sharing: Sharing) -> dict[str, tuple[bool, bool]]:
    """The tables that a way of sharing adds up, and whether each varies along rows, columns."""
    if sharing == "position":
        return {"table": (True, True)}
    varies = {"row": (True, False), "column": (False, True)}
    return {name: varies[name] for name in sharing.split("+")}


class Tables(nn.Module):
    """Numbers per position as a sum of tables: of rows, of columns, or of all positions."""

    def __init__(self, leading: tuple[int, ...], size: Size, sharing: Sharing, **options: object):
        super().__init__()
        self.sharing: Sharing = sharing
        for name, varies in axes_of(sharing).items():
            shape = (side if varied else 1 for side, varied in zip(size, varies, strict=True))
            table = torch.empty(*leading, *shape, **options)  # type: ignore[call-overload]
            self.register_parameter(name, nn.Parameter(table))
        self.size = size

    def forward(self) -> Tensor:
        """(*leading, H', W')."""
        tables = list(self.parameters())
        return sum(tables[1:], tables[0]).expand(*tables[0].shape[:-2], *self.size)


class FixedWeights(Tables):
    """K weights per position that all examples share (Sec. 3.2.1)."""

    def __init__(
        self,
        rank: int,
        size: Size,
        sharing: Sharing,
        normalisation: Normalisation,
        init: CombiningInit,
        **options: object,
    ) -> None:
        super().__init__((rank,), size, sharing, **options)
        self.normalisation, self.init = normalisation, init
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """ "conv": all equal, so that the layer is a convolution; "random": from N(0, 1)."""
        tables = list(self.parameters())
        for table in tables:
            if self.init == "conv":
                table.fill_(1 / math.sqrt(len(table)) / len(tables))
            else:
                table.normal_()

    def forward(self, x: Tensor | None = None) -> Tensor:
        """(K, H', W'), whatever the input."""
        return NORMALISATIONS[self.normalisation](super().forward())


class InputWeights(nn.Module):
    """The light network g: K weights per position of every example (Sec. 3.2.2, Fig. Supp. 5).

    Kernels are drawn Glorot-uniform and biases start at 0, as in the published code.
    """

    def __init__(
        self,
        rank: int,
        in_channels: int,
        input_size: Size,
        size: Size,
        normalisation: Normalisation,
        **options: object,
    ) -> None:
        super().__init__()
        self.size, self.normalisation = size, normalisation
        new: Callable[..., nn.Conv2d] = lambda *args, **more: nn.Conv2d(*args, **more, **options)  # noqa: E731
        fitting = [d for d in DILATIONS if d <= (min(input_size) - 1) / 2]
        self.reduce = new(in_channels, rank, 1)
        self.scales = nn.ModuleList(new(rank, rank, 3, dilation=d, groups=rank) for d in fitting)
        self.squeeze = new((2 + len(fitting)) * rank, 3 * rank, 1)
        self.excite = new(3 * rank, 6 * rank, 1)
        self.project = new(6 * rank, rank, 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all layers anew."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        low = self.reduce(x)
        seen = [low, low.mean((2, 3), keepdim=True), *(scale(low) for scale in self.scales)]
        y = torch.cat([self._resized(part) for part in seen], 1)
        y = self.excite(self.squeeze(y).relu()).sigmoid()
        return NORMALISATIONS[self.normalisation](self.project(y))

    def _resized(self, x: Tensor) -> Tensor:
        if x.shape[2:] == self.size:
            return x
        return functional.interpolate(x, self.size, mode="bilinear", align_corners=True)


class SpatialBias(Tables):
    """A bias per position, the same for all channels (Eq. 5)."""

    def __init__(self, size: Size, sharing: Sharing, **options: object) -> None:
        super().__init__((), size, sharing, **options)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start at 0."""
        for table in self.parameters():
            table.zero_()
