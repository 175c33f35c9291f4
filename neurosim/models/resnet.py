"""Residual networks (He et al. 2016) as Pogodin et al. 2021 (Sec. 5, Networks) train them.

Module names are torchvision's, so that weights can be exchanged. Convolutions and locally
connected layers have no bias and are both drawn Kaiming normal with fan-out and ReLU gain, that
is from N(0, 2 / (out_channels k^2)) (App. B). Where a stage halves the image, the shortcut is a
strided 1x1 convolution with batch norm: only that form, not padding with zero channels, gives
the 272,474 (conv) and 40,814,762 (local, at 32x32) parameters of the published ResNet-20.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from neurosim.errors import require
from neurosim.models.connect import Connectivity, connect
from neurosim.nn.convert import Init, Skip


class BasicBlock(nn.Module):
    """Two convolutions, 3x3 unless told otherwise, and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel_size: int = 3) -> None:
        super().__init__()
        k, padding = kernel_size, kernel_size // 2
        self.conv1 = nn.Conv2d(inputs, outputs, k, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, k, padding=padding, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)  # in place: nobody keeps y
        return self.relu(y)


def resnet(
    depth: int,
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    *,
    skip: Skip | Sequence[Skip] = 0,
    freeze_skipped: bool = False,
    init: Init = "independent",
) -> nn.Module:
    """The CIFAR form with 6n + 2 layers: stages of n blocks with 16, 32 and 64 channels.

    Args:
        depth: 20, 32, 44, 56, 110 and so on.
        classes: number of outputs.
        connectivity: "conv", or "local" for a filter of its own at every position.
        input_size: of the images; a local network can take no others.
        in_channels: of the images.
        skip: with "local", layers that stay convolutional, as in `to_local`: 1 for the first,
            `pointwise` for the shortcuts.
        freeze_skipped: with "local", whether those keep their initial weights.
        init: with "local", how filters start, as in `to_local`.
    """
    require(depth >= 8 and depth % 6 == 2, "depth", depth, "6n + 2 with n >= 1, such as 20")
    stem = _stem(in_channels, 16, kernel_size=3, stride=1)
    model = _network(stem, (16, 32, 64), (depth - 2) // 6, classes)
    return connect(
        model, connectivity, input_size, in_channels, skip, freeze_skipped=freeze_skipped, init=init
    )


def resnet20(
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    *,
    skip: Skip | Sequence[Skip] = 0,
    freeze_skipped: bool = False,
    init: Init = "independent",
) -> nn.Module:
    """ResNet-20 for CIFAR and, with input_size 48, TinyImageNet; arguments as for `resnet`."""
    return resnet(
        20,
        classes,
        connectivity,
        input_size,
        in_channels,
        skip=skip,
        freeze_skipped=freeze_skipped,
        init=init,
    )


def resnet18(
    width: float = 0.5,
    classes: int = 1000,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 224,
    in_channels: int = 3,
    *,
    skip: Skip | Sequence[Skip] = 0,
    freeze_skipped: bool = False,
    init: Init = "independent",
) -> nn.Module:
    """ResNet-18 for ImageNet with `width` times its 64, 128, 256 and 512 channels.

    The paper's is half as wide, to fit a local one into memory, and has variants whose first
    layer stays convolutional (`skip=1`, App. B.2). Other arguments as for `resnet`.
    """
    channels = [round(width * c) for c in (64, 128, 256, 512)]
    require(channels[0] >= 1, "width", width, "at least 1/64, so that every block has a channel")
    stem = _stem(in_channels, channels[0], kernel_size=7, stride=2)
    stem["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    model = _network(stem, channels, 2, classes)
    return connect(
        model, connectivity, input_size, in_channels, skip, freeze_skipped=freeze_skipped, init=init
    )


def resnet18_small(
    kernel_size: int = 3,
    width: float = 1.0,
    classes: int = 10,
    connectivity: Connectivity = "conv",
    input_size: int | tuple[int, int] = 32,
    in_channels: int = 3,
    *,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
) -> nn.Module:
    """ResNet-18 for small images with filters of any odd size (Neyshabur 2020, Sec. 4.2).

    A first layer of stride 1 without pooling behind it; other arguments as for `resnet18`.
    """
    odd = kernel_size >= 1 and kernel_size % 2 == 1
    require(odd, "kernel_size", kernel_size, "odd, to be centred on a pixel")
    channels = [round(width * c) for c in (64, 128, 256, 512)]
    require(channels[0] >= 1, "width", width, "at least 1/64, so that every block has a channel")
    stem = _stem(in_channels, channels[0], kernel_size, stride=1)
    model = _network(stem, channels, 2, classes, kernel_size)
    return connect(model, connectivity, input_size, in_channels, skip, init=init)


def _stem(inputs: int, outputs: int, kernel_size: int, stride: int) -> dict[str, nn.Module]:
    require(inputs >= 1, "in_channels", inputs, ">= 1")
    padding = kernel_size // 2
    return {
        "conv1": nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=False),
        "bn1": nn.BatchNorm2d(outputs),
        "relu": nn.ReLU(inplace=True),
    }


def _network(
    stem: dict[str, nn.Module],
    channels: Sequence[int],
    blocks: int,
    classes: int,
    kernel_size: int = 3,
) -> nn.Sequential:
    """Stem, stages of equally many blocks that halve the image from the second on, classifier."""
    require(classes >= 1, "classes", classes, ">= 1")
    modules, inputs = OrderedDict(stem), channels[0]
    for stage, outputs in enumerate(channels, start=1):
        first = BasicBlock(inputs, outputs, 1 if stage == 1 else 2, kernel_size)
        rest = (BasicBlock(outputs, outputs, 1, kernel_size) for _ in range(blocks - 1))
        modules[f"layer{stage}"] = nn.Sequential(first, *rest)
        inputs = outputs
    modules["avgpool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["fc"] = nn.Linear(inputs, classes)
    model = nn.Sequential(modules)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
