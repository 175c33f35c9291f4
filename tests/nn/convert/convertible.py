"""Models with every kind of convolution."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn

from neurosim import nn as local_nn

to_local: Any = local_nn.to_local  # any attribute may be asked of what comes back
to_conv: Any = local_nn.to_conv
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Bottleneck(nn.Module):
    """As in ResNeXt: 1x1, grouped 3x3 with stride, 1x1, and a strided 1x1 shortcut."""

    def __init__(self):
        super().__init__()
        self.reduce = nn.Conv2d(6, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.expand = nn.Conv2d(4, 8, 1)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=2)

    def forward(self, x):
        y = self.grouped(self.norm(self.reduce(x)).relu())
        return self.expand(y.relu()) + self.shortcut(x)


class Plain(nn.Module):
    """Defines its last layer first and keeps its layers in a list that torch knows nothing of."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.first = nn.Conv2d(1, 4, 3, padding_mode="circular", padding="same")
        self.layers = [self.first, nn.ReLU(), self.last]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def separable() -> Any:
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 6, (3, 5), stride=(2, 1), padding=(1, 2), padding_mode="reflect"),
            act=nn.GELU(),
            depthwise=nn.Conv2d(6, 12, 3, padding="same", dilation=2, groups=6),
            drop=nn.Dropout(0.5),
            norm=nn.BatchNorm2d(12),
            pointwise=nn.Conv2d(12, 6, 1, bias=False),
            block=Bottleneck(),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(8, 5),
        )
    )


def sequence():
    return nn.Sequential(
        nn.Conv1d(2, 4, 4, padding="same", padding_mode="replicate"),
        nn.Tanh(),
        nn.Conv1d(4, 4, 3, stride=2, dilation=2, groups=4, padding=3),
    )


def volume():
    return nn.Sequential(
        nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 1)),
        nn.BatchNorm3d(4),
        nn.Conv3d(4, 2, 2, stride=(1, 2, 1), groups=2, padding=1, padding_mode="circular"),
    )


MODELS = {
    "separable": (separable, (2, 3, 9, 7)),
    "plain": (Plain, (2, 1, 6, 5)),
    "sequence": (sequence, (2, 2, 11)),
    "volume": (volume, (2, 2, 4, 5, 4)),
}


def small(**changes):
    return nn.Conv2d(2, 2, 3, **changes)
