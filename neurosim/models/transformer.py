"""A small vision transformer whose tokens are projected by filters of their own (App. A.4).

An image is cut into patches, and every layer of a transformer multiplies all of its tokens by the
same matrix: another computation that needs shared weights. Here these projections (the patch
embedding, queries, keys and values, the output of attention and the two layers of every MLP) are
1x1 convolutions over tokens, so that a network with a matrix of its own for every token is the
same network converted, like any other (`neurosim.nn.to_local`). All tokens form one grid of period
1: connecting neurons across patches that have the same relative position lets them share
(`neurosim.sleep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurosim.errors import require, require_choice
from neurosim.models.size import image_size
from neurosim.nn.convert import Init, Skip, to_local

Connectivity = Literal["shared", "local"]


class TokenNorm(nn.LayerNorm):
    """Layer norm of every token by itself, (N, C, tokens)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, C, tokens) -> (N, C, tokens)."""
        return super().forward(input.mT).mT


class Attention(nn.Module):
    """Self-attention; the softmax over tokens is the only place where tokens meet."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, tokens) -> (N, C, tokens)."""
        split = self.qkv(x).unflatten(1, (3, self.heads, -1)).mT  # (N, 3, heads, tokens, C / heads)
        mixed = functional.scaled_dot_product_attention(*split.unbind(1))
        return self.out(mixed.mT.flatten(1, 2))


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = TokenNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = TokenNorm(width)
        self.mlp = nn.Sequential(
            nn.Conv1d(width, hidden, 1), nn.GELU(), nn.Conv1d(hidden, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, tokens) -> (N, C, tokens)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches, learned positions, blocks and a linear classifier; see `vision_transformer`."""

    def __init__(
        self,
        in_channels: int,
        patch: int,
        patches: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        classes: int,
        pooling: Literal["mean", "class"],
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(width, 1)) if pooling == "class" else None
        tokens = patches + (pooling == "class")
        self.positions = nn.Parameter(torch.empty(width, tokens).normal_(0, 0.02))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = TokenNorm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = self.embed(x).flatten(2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 2)
        x = self.norm(self.blocks(x + self.positions))
        return self.fc(x.mean(2) if self.class_token is None else x[..., 0])


def vision_transformer(
    classes: int = 10,
    connectivity: Connectivity = "shared",
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    *,
    patch: int = 4,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    hidden: int = 128,
    pooling: Literal["mean", "class"] = "mean",
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
) -> nn.Module:
    """A transformer for small images, with 64 tokens of width 64 unless told otherwise.

    Args:
        classes: number of outputs.
        connectivity: "shared", or "local" for matrices of every token's own.
        input_size: of the images.
        in_channels: of the images.
        patch: side of the square patches that become tokens; must divide the image's sides.
        width: components of a token.
        depth: number of blocks.
        heads: of attention; must divide the width.
        hidden: width inside the MLPs.
        pooling: classify the mean over tokens, or a class token that is added to them.
        skip: with "local", projections that stay shared, as in `to_local`.
        init: with "local", how matrices start, as in `to_local`: independent, "copy" for equal
            ones, or equal ones with noise.
    """
    require_choice("connectivity", connectivity, ("shared", "local"))
    require_choice("pooling", pooling, ("mean", "class"))
    size = image_size(input_size)
    counts = {
        "classes": classes, "in_channels": in_channels, "patch": patch, "width": width,
        "depth": depth, "heads": heads, "hidden": hidden,
    }  # fmt: skip
    for name, count in counts.items():
        require(isinstance(count, int) and count >= 1, name, count, "a whole number >= 1")
    fits = all(side % patch == 0 for side in size)
    require(fits, "input_size", input_size, f"one or two multiples of patch = {patch}")
    require(width % heads == 0, "heads", heads, f"a divisor of width = {width}")
    patches = (size[0] // patch) * (size[1] // patch)
    model = VisionTransformer(
        in_channels, patch, patches, width, depth, heads, hidden, classes, pooling
    )
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    if connectivity == "shared":
        return model
    return to_local(model, (1, in_channels, *size), skip, init, inplace=True)
