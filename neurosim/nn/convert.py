"""From convolutions to locally connected layers and back, in any torch model.

A locally connected network is a convolutional one whose output positions have filters of their
own (Pogodin et al. 2021, Sec. 1), so any model that knows its input size has such a twin.
`to_local` makes it; `to_conv` averages the filters of every layer, which is the state that
dynamic weight sharing converges to (Sec. 4), and says how far the layer was from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.nn.dense import LOCAL, Dense, in_fields, local_weight, localised_geometry
from neurosim.nn.local import LocallyConnected
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.nn.masked import MASKED, connect, mask_of, present_weight, release_inputs
from neurosim.nn.ops.local import check_backend

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Predicate = Callable[[str, nn.Module], bool]
Skip = int | str | Predicate
Example = Tensor | Sequence[Tensor] | int | Sequence[int]
Init = Literal["independent", "copy"] | float

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
KNOWN = (*(MASKED[conv] for conv in CONV.values()), *CONV.values())  # subclasses first
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Spread:
    """How far the filters of a locally connected layer are from shared, over all its positions.

    Attributes:
        distance: |w - mean| / |w| in the Frobenius norm, from 0 (shared) to 1 (no common part).
        snr: |mean| / std of every element of the filter, averaged over them. A spread below the
            precision of the weights counts as that precision, so that a shared layer has a
            finite one, 1 / eps.
    """

    distance: float
    snr: float


def pointwise(name: str, module: nn.Module) -> bool:
    """Predicate for `skip`: 1x1 layers, which see no neighbours and have none to share with."""
    sizes = getattr(module, "kernel_size", None)
    return sizes is not None and all(size == 1 for size in sizes)


def to_local(
    model: nn.Module,
    example: Example,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
    *,
    freeze_skipped: bool = False,
    backend: str = "auto",
    inplace: bool = False,
) -> nn.Module:
    """A copy of `model` in which every convolution is a locally connected layer.

    Low-rank layers become the locally connected ones with the same outputs, whatever `init`.
    `Dense` layers, which `to_dense` has made, become local again if their weights lie in their
    receptive fields (`init` "copy") or are drawn anew.

    Names, devices, dtypes, modes, hooks, `requires_grad` and biases (one per channel, with their
    values) stay. A module that has several names or is called several times stays shared among
    them. The number of output positions comes from one forward pass of the example, through a
    second copy in eval mode: it leaves no trace in statistics, random state or the model.

    Args:
        model: any module; its convolutions must each be reached, at one input size.
        example: an input, a sequence of inputs (one per argument of the model), or the shape of
            one: with batch and channels, or only the spatial size, as a number or one per axis,
            with the channels of the model's first convolution.
        skip: convolutions to leave as they are: a count (the first ones that the example
            reaches), a name or glob pattern, a predicate of name and module such as `pointwise`,
            or several of these. The papers keep the first layer (App. B.2) or 1x1 layers.
        init: "independent" draws every filter anew (Kaiming normal, App. B); "copy" keeps the
            convolution's, so that the outputs stay the same; a number eps keeps it and adds
            independent noise of eps times the root mean square of the layer's weights.
        freeze_skipped: whether skipped convolutions stop being trained.
        backend: of the new layers.
        inplace: convert `model` itself, once every check has passed, instead of a copy. An
            optimizer made before still holds the old weights.
    """
    if isinstance(init, str):
        require_choice("init", init, ("independent", "copy"))
    else:
        valid = not isinstance(init, bool) and 0 <= init < math.inf
        require(valid, "init", init, '"independent", "copy" or a number >= 0')
    check_backend(backend)

    def prepare(name: str, conv: Conv, size: tuple[int, ...]) -> Callable[[Conv], nn.Module]:
        twin = _twin(conv, name, size, init, backend)
        twin.name = name
        return lambda conv: _filled(twin, conv, init)

    expanded = _expanded(model, init, backend)
    if expanded and not named(model, (*CONV.values(), *TRANSPOSED)):
        model = model if inplace else deepcopy(model)
    else:
        model = replace_convolutions(
            model, example, skip, prepare, freeze_skipped=freeze_skipped, inplace=inplace
        )
    for name, layer in expanded.items():
        old = model.get_submodule(name)
        become(old, hand_over(old, layer, _local_pattern(old, layer)))
    return model


def replace_convolutions(
    model: nn.Module,
    example: Example,
    skip: Skip | Sequence[Skip],
    prepare: Callable[[str, Any, tuple[int, ...]], Callable[[Any], nn.Module]],
    *,
    freeze_skipped: bool = False,
    inplace: bool = False,
) -> nn.Module:
    """A copy of `model` whose convolutions are other layers; arguments as for `to_local`.

    `prepare` refuses a convolution that it cannot replace, by name, convolution and input size;
    what it returns makes the new layer once all have been accepted.
    """
    convolutions = named(model, (*CONV.values(), *TRANSPOSED))
    if not convolutions:
        raise InvalidArgument(f"model must contain a convolution, got {type(model).__name__}")
    for module, (name, *_) in convolutions.items():
        if isinstance(module, LazyModuleMixin):
            raise InvalidArgument(
                f"{called(name)} must know its shape, got {type(module).__name__}: run the model "
                "once before converting it"
            )

    sizes = _input_sizes(model, example)
    skipped = _select(convolutions, list(sizes), skip)
    finish = {}
    for name in (names[0] for names in convolutions.values() if names[0] not in skipped):
        _check(model, name, sizes.get(name, []))
        finish[name] = prepare(name, model.get_submodule(name), sizes[name][0])

    model = model if inplace else deepcopy(model)
    for name, finished in finish.items():
        conv = model.get_submodule(name)
        become(conv, finished(conv))
    if freeze_skipped:
        for name in skipped:
            model.get_submodule(name).requires_grad_(False)
    return model


def _expanded(model: nn.Module, init: Init, backend: str) -> dict[str, LocallyConnected]:
    """Low-rank and dense layers with filters of its own for every position, by first name."""
    found = {
        name: _localised(layer, name, init)  # type: ignore[arg-type]
        for layer, (name, *_) in named(model, (Dense,)).items()
    }
    for layer, (name, *_) in named(model, (LowRankLocal2d,)).items():
        try:
            found[name] = layer.expanded(backend)  # type: ignore[operator]
        except InvalidArgument as error:
            raise InvalidArgument(f"{called(name)} cannot be local: {error}") from error
        found[name].name = name
    return found


def _localised(layer: Dense, name: str, init: str | float) -> LocallyConnected:
    """The locally connected layer that a dense one embeds, with a bias for every position.

    `init` "copy" keeps the weights and refuses those outside of the receptive fields; others
    draw them anew, as `to_local` has it.
    """
    bias = "position" if layer.bias is not None else False
    drawn = 0.0 if init == "copy" else init
    local = localised_geometry(layer, bias=bias, init=drawn).to_empty(device=layer.weight.device)
    local.name = name
    if init == "copy":
        weight = present_weight(layer)
        filters, outside = local_weight(weight, local)
        if outside:
            count = int(weight.count_nonzero())
            raise InvalidArgument(
                f"layer {name!r} must be local to become locally connected, got {outside:,} of "
                f"{count:,} non-zero weights outside of its receptive fields of size "
                f"{local.kernel_size}: arrange its units (neurosim.nn.arrange), set such weights "
                "to 0 (neurosim.nn.restrict), or take larger ones"
            )
        with torch.no_grad():
            local.weight.copy_(filters)
            if layer.bias is not None and local.bias is not None:
                local.bias.copy_(layer.bias.view_as(local.bias))
    else:
        local.reset_parameters()
    return local


def _local_pattern(layer: nn.Module, local: LocallyConnected) -> Tensor | None:
    """Which taps are present of what a layer becomes; those that meet the padding are."""
    present = getattr(layer, "present", None)
    return None if present is None else in_fields(present, local, beyond=True)


def to_conv(model: nn.Module, *, inplace: bool = False) -> tuple[nn.Module, dict[str, Spread]]:
    """A copy of `model` whose locally connected layers are convolutions with their mean filters.

    Biases are averaged over positions, where they have them. The report says of every layer, by
    name, how far it was from shared before. With `inplace`, `model` itself is converted.
    """
    layers = named(model, (LocallyConnected,))
    if not layers:
        raise InvalidArgument(
            f"model must contain a locally connected layer, got {type(model).__name__}"
        )
    for layer, (name, *_) in layers.items():
        _check_forward(name, layer, LOCAL.values(), ("forward",))
    names = [names[0] for names in layers.values()]
    model = model if inplace else deepcopy(model)
    report = {}
    for name in names:
        layer = model.get_submodule(name)
        conv, report[name] = _conv(layer)  # type: ignore[arg-type]
        become(layer, conv)
    return model, report


def named(model: nn.Module, kinds: tuple[type, ...]) -> dict[nn.Module, list[str]]:
    """Modules of these kinds with all their names; a low-rank layer is one whatever is in it."""
    found: dict[nn.Module, list[str]] = {}
    everything = dict(model.named_modules(remove_duplicate=False))
    whole = tuple(f"{n}." for n, m in everything.items() if n and isinstance(m, LowRankLocal2d))
    for name, module in everything.items():
        if isinstance(module, kinds) and not name.startswith(whole):
            found.setdefault(module, []).append(name)
    return found


def called(name: str) -> str:
    """How an error calls a layer."""
    return f"layer {name!r}" if name else "the model itself"


def _arguments(model: nn.Module, example: Example) -> tuple[Tensor, ...]:
    """What to call the model with; copies, since a model may change its input in place."""
    if isinstance(example, Tensor):
        return (example.detach().clone(),)
    if isinstance(example, Sequence) and example and isinstance(example[0], Tensor):
        return tuple(x.detach().clone() for x in example)  # type: ignore[union-attr]
    conv: Any = next(iter(named(model, (*CONV.values(), *TRANSPOSED))))
    axes = conv.weight.ndim - 2
    shape = (example,) * axes if isinstance(example, int) else tuple(example)
    valid = len(shape) in (axes, axes + 2) and all(isinstance(v, int) and v >= 1 for v in shape)
    allowed = (
        f"a tensor, tensors, a spatial size (a whole number >= 1 or {axes} of them) or a shape "
        f"with batch and channels before it"
    )
    require(valid, "example", example, allowed)
    if len(shape) == axes:
        shape = (1, conv.in_channels, *shape)
    return (torch.zeros(shape, device=conv.weight.device, dtype=conv.weight.dtype),)  # type: ignore[arg-type]


@torch.no_grad()
def _input_sizes(
    model: nn.Module, example: Example, kinds: tuple[type, ...] = (*CONV.values(), *TRANSPOSED)
) -> dict[str, list[tuple[int, ...]]]:
    """The input sizes at which every convolution is used, in the order they are reached.

    Or every module of other kinds, by their weight or, for norms, all that follows the channels.
    """
    arguments = _arguments(model, example)
    scratch = deepcopy(model).eval()
    sizes: dict[str, list[tuple[int, ...]]] = {}
    running: list[str] = []  # the convolution to blame when the pass fails

    def watch(name: str, conv: nn.Module) -> None:
        def enter(conv: Any, inputs: tuple, kwargs: dict) -> None:
            x = inputs[0] if inputs else kwargs["input"]
            size = tuple(x.shape[2 if conv.weight.ndim == 1 else 2 - conv.weight.ndim :])
            running.append(name)
            found = sizes.setdefault(name, [])
            if size not in found:
                found.append(size)

        conv.register_forward_pre_hook(enter, with_kwargs=True)
        conv.register_forward_hook(lambda *_: running.clear())

    for conv, (name, *_) in named(scratch, kinds).items():
        watch(name, conv)
    devices = {p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")}
    kind = next((device.type for device in devices), "cuda")
    try:
        with torch.random.fork_rng(devices, device_type=kind):  # dropout that ignores eval mode
            scratch(*arguments)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in arguments)
        where = f"an input of size {sizes[running[-1]][-1]}" if running else f"an example {shapes}"
        who = called(running[-1]) if running else "the model"
        raise InvalidArgument(f"{who} must be able to take {where}, got: {error}") from error
    return sizes


def _select(
    convolutions: dict[nn.Module, list[str]], reached: list[str], skip: Skip | Sequence[Skip]
) -> set[str]:
    """First names of the convolutions that `skip` means; of a tied one any name counts."""
    rules = skip if isinstance(skip, Sequence) and not isinstance(skip, str) else (skip,)
    chosen: set[str] = set()
    for rule in rules:
        if isinstance(rule, int) and not isinstance(rule, bool):
            require(0 <= rule <= len(reached), "skip", rule, f"from 0 to {len(reached)}")
            chosen.update(reached[:rule])
        elif isinstance(rule, str):
            known = [name for names in convolutions.values() for name in names]
            matches = {name for name in known if fnmatchcase(name, rule)}
            shown = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
            require(matches, "skip", rule, f"a pattern that some convolution matches ({shown})")
            chosen.update(names[0] for names in convolutions.values() if matches & {*names})
        else:
            allowed = "a count, a name pattern, a predicate (name, module) -> bool or several"
            require(callable(rule), "skip", rule, allowed)
            chosen.update(
                names[0]
                for module, names in convolutions.items()
                if any(rule(name, module) for name in names)  # type: ignore[operator]
            )
    return chosen


def _check(model: nn.Module, name: str, sizes: list[tuple[int, ...]]) -> None:
    """Whether a convolution has a locally connected twin; skipping it is always a way out."""
    conv, who = model.get_submodule(name), called(name)
    way_out = f"name it in skip to keep the {type(conv).__name__}"
    if isinstance(conv, TRANSPOSED):
        raise InvalidArgument(
            f"{who} must be a Conv1d, Conv2d or Conv3d, got {type(conv).__name__}; {way_out}"
        )
    _check_forward(name, conv, KNOWN, ("forward", "_conv_forward"))
    weight = conv._parameters.get("weight")
    if weight is None:
        raise InvalidArgument(
            f"{who} must have its weight as a parameter, got one that is computed "
            f"(parametrized, normalised or pruned); {way_out}"
        )
    others = [
        other
        for other, module in model.named_modules()
        if module is not conv and any(p is weight for p in module._parameters.values())
    ]
    if others:
        raise InvalidArgument(
            f"{who} must have a weight of its own, got the one of {called(others[0])}; {way_out}"
        )
    if len(sizes) != 1:
        got = " and ".join(map(str, sizes)) if sizes else "no input from the example"
        raise InvalidArgument(f"{who} must be used at exactly one input size, got {got}; {way_out}")


def _check_forward(name: str, module: nn.Module, bases: Any, methods: tuple[str, ...]) -> None:
    """A subclass may compute anything; only one that computes as its base is understood."""
    base = next(base for base in bases if isinstance(module, base))
    changed = any(getattr(type(module), method) is not getattr(base, method) for method in methods)
    if changed or "forward" in vars(module):
        raise InvalidArgument(
            f"{called(name)} must compute as {base.__name__}, got {type(module).__name__} with a "
            "forward of its own"
        )


def _settings(layer: Conv | LocallyConnected) -> dict[str, Any]:
    """What both kinds of layer are made with; on meta, where nothing is drawn or allocated."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    same = {name: getattr(layer, name) for name in (*names, "groups", "padding_mode")}
    return same | {"bias": layer.bias is not None, "device": "meta", "dtype": layer.weight.dtype}


def _twin(
    conv: Conv, name: str, size: tuple[int, ...], init: Init, backend: str
) -> LocallyConnected:
    """The layer that a convolution becomes, still without memory for its weights."""
    drawn = 0.0 if init == "copy" else init  # what a later reset_parameters does
    try:
        return LOCAL[len(size)](**_settings(conv), input_size=size, backend=backend, init=drawn)
    except InvalidArgument as error:
        raise InvalidArgument(f"{called(name)} cannot be local: {error}") from error


@torch.no_grad()
def _filled(twin: LocallyConnected, conv: Conv, init: Init) -> LocallyConnected:
    layer = twin.to_empty(device=conv.weight.device)
    if init == "independent":
        layer.reset_parameters()
    elif init == "copy":
        layer.weight.copy_(conv.weight)
    else:
        scale = conv.weight.square().mean().sqrt()
        layer.weight.normal_().mul_(init * scale).add_(conv.weight)
    return hand_over(conv, layer, getattr(conv, "present", None))  # type: ignore[arg-type]


@torch.no_grad()
def _conv(layer: LocallyConnected) -> tuple[Conv, Spread]:
    mean, std, number = _statistics(layer)
    conv = CONV[layer.axes](**_settings(layer)).to_empty(device=mean.device)
    conv.weight.copy_(mean)
    if layer.bias is not None and layer.bias.ndim > 1:
        conv.bias.copy_(layer.bias.flatten(1).mean(1))
    somewhere = None if layer.present is None else layer.present.flatten(0, layer.axes - 1).any(0)
    return hand_over(layer, conv, somewhere), _spread(mean, std, number)


def _statistics(layer: LocallyConnected) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and number of present weights over positions: (O, C / g, *kernel).

    Exact where all filters are equal, so that a round trip is too.
    """
    weight = layer.weight.flatten(0, layer.axes - 1)
    mask = mask_of(layer)
    if mask is None:
        std, mean = torch.std_mean(weight, dim=0, correction=0)  # one pass (Welford)
        return mean, std, torch.full(mean.shape, len(weight))
    present = mask.flatten(0, layer.axes - 1)
    number = present.sum(0).expand(weight.shape[1:])
    some = weight.masked_fill(~present, -math.inf).amax(0).masked_fill(number == 0, 0)
    weight, present = (weight - some) * present, present.expand_as(weight)
    shift = weight.sum(0) / number.clamp(min=1)
    variance = ((weight - shift) * present).square().sum(0) / number.clamp(min=1)
    return some + shift, variance.sqrt(), number


def _spread(mean: Tensor, std: Tensor, number: Tensor) -> Spread:
    precision = torch.finfo(mean.dtype).eps
    exist = (number > 0).to("cpu")
    mean, std, number = (x.to("cpu", torch.float64).abs()[exist] for x in (mean, std, number))
    variance = (number * std.square()).sum()
    total = variance + (number * mean.square()).sum()
    distance = (variance / total).sqrt().item() if total > 0 else 0.0
    snr = torch.where(std > precision * mean, mean / std, 1 / precision)
    return Spread(distance, snr.mean().item() if len(snr) else 0.0)


def hand_over(old: nn.Module, new: Any, present: Tensor | None = None) -> Any:
    """Give a layer what it keeps of the one it replaces, besides its arguments and filters.

    That is its absent inputs, a bias of the same shape, the mode, and what is trained. Absent
    weights are `present` where the new layer has weights of another shape.
    """
    connect(new, present, getattr(old, "present_inputs", None))
    bias: Any = old.bias
    if bias is not None and bias.shape == new.bias.shape:
        new.bias = bias
    elif bias is not None:
        new.bias.requires_grad_(bias.requires_grad)
    trained = (p.requires_grad for name, p in old.named_parameters() if "bias" not in name)
    new.weight.requires_grad_(any(trained))
    return new.train(old.training)


def become(old: nn.Module, new: nn.Module) -> None:
    """Turn `old` into `new` where it stands.

    Every reference follows: other names of a tied layer, lists that no module knows of, hooks.
    Patterns do not: `hand_over` is for what they are in the new layer.
    """
    release_inputs(old)
    state = vars(new)
    for key, value in vars(old).items():
        if "hook" in key and value:
            if isinstance(value, dict):  # the very dict, which handles remove hooks from
                value.update(state[key])
            state[key] = value
    vars(old).clear()
    old.__class__ = new.__class__
    vars(old).update(state)
