"""Which layers of a model a conversion is for, and at which input sizes they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument, require
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.nn.masked import MASKED

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Predicate = Callable[[str, nn.Module], bool]
Skip = int | str | Predicate
Example = Tensor | Sequence[Tensor] | int | Sequence[int]

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (*CONV.values(), *TRANSPOSED)
KNOWN = (*(MASKED[conv] for conv in CONV.values()), *CONV.values())  # subclasses first


def pointwise(name: str, module: nn.Module) -> bool:
    """Predicate for `skip`: 1x1 layers, which see no neighbours and have none to share with."""
    sizes = getattr(module, "kernel_size", None)
    return sizes is not None and all(size == 1 for size in sizes)


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
    conv: Any = next(iter(named(model, CONVOLUTIONS)), None)
    allowed = "a tensor, or tensors, for a model without convolutions"
    require(conv is not None, "example", example, allowed)
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
def input_sizes(
    model: nn.Module, example: Example, kinds: tuple[type, ...] = CONVOLUTIONS
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
            weight: Any = conv.weight  # norms have one number per channel, or none
            axes = 1 if weight is None else weight.ndim
            size = tuple(x.shape[2 if axes == 1 else 2 - axes :])
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


def selected(
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


def check_convolution(model: nn.Module, name: str, sizes: list[tuple[int, ...]]) -> None:
    """Whether a convolution has a locally connected twin; skipping it is always a way out."""
    conv, who = model.get_submodule(name), called(name)
    way_out = f"name it in skip to keep the {type(conv).__name__}"
    if isinstance(conv, TRANSPOSED):
        raise InvalidArgument(
            f"{who} must be a Conv1d, Conv2d or Conv3d, got {type(conv).__name__}; {way_out}"
        )
    check_forward(name, conv, KNOWN, ("forward", "_conv_forward"))
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


def check_forward(name: str, module: nn.Module, bases: Any, methods: tuple[str, ...]) -> None:
    """A subclass may compute anything; only one that computes as its base is understood."""
    base = next(base for base in bases if isinstance(module, base))
    changed = any(getattr(type(module), method) is not getattr(base, method) for method in methods)
    if changed or "forward" in vars(module):
        raise InvalidArgument(
            f"{called(name)} must compute as {base.__name__}, got {type(module).__name__} with a "
            "forward of its own"
        )
