"""From settings to what is trained: the data and the network, and whether they fit."""

from __future__ import annotations

import math
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neurosim.data import Augment, Dataset, Distortion, Files, Loader, distortion, load, options_of
from neurosim.errors import InvalidArgument, renaming, require
from neurosim.models import (
    deep,
    free,
    lrlc,
    perceptron,
    resnet18,
    resnet18_small,
    resnet20,
    shallow,
    simple,
    vision_transformer,
)
from neurosim.models.free import Plan
from neurosim.models.shallow_deep import WIDTH
from neurosim.nn import PermutePixels
from neurosim.nn.modes import modes_kept
from neurosim.training.distributed import Processes
from neurosim.training.settings import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    TrainSettings,
)

FREE: dict[str, Plan] = {"free-mnist": "mnist", "free-cifar": "cifar"}
EVALUATED = 2**22  # pixels to evaluate at once on a GPU
TINY = 48  # TinyImageNet's images are cropped to 48 pixels (Sec. 5.1)


def build_data(settings: DataSettings, seed: int) -> Dataset:
    """The set, cut as asked: `test` are the images that training is evaluated on."""
    size = settings.image_size
    options: dict[str, Any] = {} if size is None else {"size": size}
    if size is not None:
        allowed = f"left out for --dataset {settings.dataset}, whose images have one size"
        fits = "size" in options_of(settings.dataset, settings.data)
        require(fits, "--image-size", size, allowed)
    data = load(settings.dataset, settings.data, **options)
    if settings.folds is not None:
        with renaming(folds="--folds", fold="--fold"):
            data = data.fold(settings.fold, settings.folds)
    if settings.normalise == "none":
        data = replace(data, normalisation=((0.0,) * data.channels, (1.0,) * data.channels))
    if settings.validation:
        with renaming(validation="--validation"):
            data = data.split(settings.validation, seed)
    if settings.subset is not None:
        with renaming(count="--subset"):
            data = data.subset(settings.subset, seed)
    if settings.test_subset is not None:
        few, least = settings.test_subset, min(map(len, filter(None, (data.test, data.final))))
        require(few <= least, "--test-subset", few, f"at most {least}, the images to test with")
        final = None if data.final is None else data.final.subset(few)
        data = replace(data, test=data.test.subset(few), final=final)
    return data


def build_augment(settings: DataSettings, data: Dataset) -> Augment:
    """How training images vary; ImageNet's are flipped as in the paper."""
    distort = settings.distort and distortion(settings.distort, settings.interpolation)
    if isinstance(data.train, Files):
        flip = settings.flip or settings.dataset == "imagenet"
        crop, repetitions = settings.crop, settings.repetitions
        # A pad is refused.
        return Augment(settings.pad, flip, repetitions, crop=crop, distortion=distort or None)
    in_memory = f"left out for --dataset {settings.dataset}, whose images have one size"
    require(settings.crop == "resize", "--crop", settings.crop, in_memory)
    return Augment(
        pad=settings.pad,
        flip=settings.flip,
        repetitions=settings.repetitions,
        center_crop=TINY if settings.dataset == "tinyimagenet" else None,
        distortion=distort or None,
    )


def build_copies(settings: DataSettings) -> dict[str, Distortion]:
    """How the copies of the images held out are distorted, by the names they were given."""
    return {name: distortion(name, settings.interpolation) for name in settings.evaluations}


def build_loader(
    settings: TrainSettings,
    processes: Processes,
    data: Dataset,
    augment: Augment,
    *,
    train: bool = False,
    distortion: Distortion | None = None,
) -> Loader:
    """Batches to train with, or to evaluate on: then maybe distorted, and in order."""
    size = settings.optimisation.batch_size
    return Loader(
        data.train if train else data.test,
        size if train else _evaluation_batch(size, data, processes),
        mean=data.mean,
        std=data.std,
        augment=augment if train else augment.evaluation(distortion),
        shuffle=train,
        seed=settings.seed,
        device=processes.device,
        rank=processes.rank,
        world=processes.world,
    )


def _evaluation_batch(size: int, data: Dataset, processes: Processes) -> int:
    """Rows to evaluate at once: on a GPU more than to train with, if images are small.

    Layers are started one by one there, which takes as long for a few rows as for many.
    """
    if processes.device.type != "cuda" or processes.world > 1:
        return size
    return max(size, min(8 * size, EVALUATED // math.prod(data.image_size)))


class Task(Protocol):
    """What of a data set decides how a network begins and ends."""

    @property
    def channels(self) -> int:
        """Of the images."""
        ...

    @property
    def classes(self) -> int:
        """Number of outputs."""
        ...


def build_network(settings: NetworkSettings, data: Task, size: tuple[int, int]) -> nn.Module:
    """The network for images of this size; its weights come from torch's global generator."""
    with renaming(skip="--conv-first or --conv-layers"):  # models know of no options
        network = _network(settings, data, size)
    if not settings.permute:
        return network
    layers = OrderedDict([("permute", PermutePixels(size)), *network.named_children()])
    return nn.Sequential(layers)


def made_ready(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, in training mode, with filters in the order of the images."""
    network = network.to(device)
    if not network.training:  # parts of it may be meant to stay in evaluation mode
        network.train()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # batches of images come channels-last
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def structure(network: nn.Module) -> str:
    """What a network is made of, to tell one of a user's own from another.

    Of its code nothing: a run may go on after a comment was changed, or a fault mended. (Kept
    activations may not be taken for another code's, see `analysis.representations.fingerprints`.)
    """
    kind = type(network)
    return f"{kind.__module__}.{kind.__qualname__}: {network!r}"


def check_processes(wake: OptimisationSettings, processes: Processes) -> None:
    """Refuse what this device, or several processes, cannot do."""
    if wake.cuda_graphs and processes.device.type != "cuda":
        raise InvalidArgument(f"--cuda-graphs needs a GPU, got --device {processes.device}")
    if wake.step_in_backward and processes.world > 1:
        raise InvalidArgument(
            "--step-in-backward moves weights before gradients are averaged: leave it out "
            f"with several processes, got {processes.world}"
        )


def check_network(
    network: nn.Module,
    data: Dataset,
    shape: tuple[int, ...],
    device: torch.device,
    precision: torch.dtype | None = None,
) -> None:
    """Refuse a network that does not fit the images, of this shape, or their classes."""
    lower = torch.autocast(device.type, precision, enabled=precision is not None)
    try:
        with torch.no_grad(), lower, modes_kept(network):
            output = network.eval()(torch.zeros(1, *shape, device=device))
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidArgument(f"network must take images of shape {shape}: {error}") from error
    expected = f"(n, {data.classes}), as {data.name} has {data.classes} classes"
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    require(got == (1, data.classes), "output of network", got, f"of shape {expected}")


def check_batches(
    network: nn.Module, loader: Loader, shape: tuple[int, ...], device: torch.device
) -> None:
    """Refuse batches of one image where batch normalisation has nothing else to average over."""
    last = loader.rows(len(loader) - 1)
    if last // loader.world > 1 or not any(isinstance(m, _BatchNorm) for m in network.modules()):
        return
    batch_size, images = loader.batch_size, len(loader.images)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            deepcopy(network).train()(torch.zeros(1, *shape, device=device))
    except ValueError as error:
        raise InvalidArgument(
            f"--batch-size must leave more than one of {images} images for the last batch (of each "
            f"process), got {batch_size}: this network's batch normalisation cannot take one"
        ) from error


def _network(settings: NetworkSettings, data: Task, size: tuple[int, int]) -> nn.Module:
    if settings.model == "lrlc":
        return lrlc(
            data.classes,
            settings.layer,
            settings.depth,
            settings.rank,
            size,
            data.channels,
            sharing=settings.sharing,
            normalisation=settings.normalisation,
            init=settings.combining,
        )
    common: dict[str, Any] = {
        "classes": data.classes,
        "connectivity": settings.connectivity,
        "input_size": size,
        "in_channels": data.channels,
        "init": settings.init,
    }
    width, skip = settings.width, (settings.conv_first, *settings.conv_layers)
    if settings.model in FREE:
        return _build_free(settings, common)
    if settings.model == "simple":
        channels = [max(1, round(width * c)) for c in (8, 16, 16)]
        return simple(**common, channels=channels, skip=skip)
    if settings.model == "resnet18":
        return resnet18(**common, width=width, skip=skip)
    if settings.model == "resnet18-small":
        return resnet18_small(**common, width=width, kernel_size=settings.kernel or 3, skip=skip)
    if settings.model == "perceptron":
        return perceptron(data.classes, size, data.channels, max(1, round(width * WIDTH)))
    if settings.model == "shallow":
        kernel = settings.kernel or 9
        return shallow(**common, alpha=settings.channels, kernel_size=kernel, skip=skip)
    if settings.model == "deep":
        return deep(**common, alpha=settings.channels, skip=skip)
    if settings.model == "resnet20":
        return resnet20(**common, skip=skip)
    shared = "shared" if settings.connectivity == "conv" else "local"
    return vision_transformer(**{**common, "connectivity": shared}, skip=skip)


def _build_free(settings: NetworkSettings, common: dict[str, Any]) -> nn.Module:
    """A free convolutional network, its twin, or one of low rank."""
    return free(
        FREE[settings.model],
        **{name: value for name, value in common.items() if name != "init"},
        fans=settings.fans,
        probability=settings.severed,
        severed=settings.sever,
        rank=settings.rank,
    )
