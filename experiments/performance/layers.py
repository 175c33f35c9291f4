"""How fast and how small locally connected layers are, beside convolutions and unfold + einsum.

    python -m experiments.performance.layers [--device cpu|cuda] [--batch N] [--out FOLDER]

First, our layer and the unfold + einsum formulation must agree on outputs and gradients; no
speed is printed while they do not. Then, side by side in one run and interleaved, because
machines are noisy: the layer shapes of ResNet-20 (and on a GPU of the half-width ResNet-18 at
224x224) against what the machine can do, forward and forward + backward; and the whole ResNet-20:
forward, forward + backward, a full AdamW step, peak memory of live tensors, also with steps taken
in the backward pass (which then are part of "forward + backward"). Last, every target, met or
not. Ours and convolutions run channels-last, as fast as they go, ours also channels-first, as
images come. A CPU computes in float32. A GPU computes in bfloat16: single layers as CUDA graphs
(and eagerly), networks by autocast over weights in float32, eagerly, compiled, and as CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.performance.measure import MIB, captured, interleaved, limits, peak_memory
from experiments.performance.parts import (
    OnDevice,
    Target,
    device_command_line,
    execute,
    keep,
    shown,
)
from neurosim.models import resnet20
from neurosim.nn import LocallyConnected2d
from neurosim.optim import AdamW, step_in_backward
from neurosim.training.compiling import compile_network

# Channels in and out, kernel, input size, stride, and how many of them the network has.
RESNET20 = ((3, 16, 3, 32, 1, 1), (16, 16, 3, 32, 1, 6), (16, 32, 3, 32, 2, 1),
            (32, 32, 3, 16, 1, 5), (32, 64, 3, 16, 2, 1), (64, 64, 3, 8, 1, 5))  # fmt: skip
RESNET18 = ((3, 32, 7, 224, 2, 1), (32, 32, 3, 56, 1, 4), (32, 64, 3, 56, 2, 1),
            (64, 64, 3, 28, 1, 3), (64, 128, 3, 28, 2, 1), (128, 128, 3, 14, 1, 3),
            (128, 256, 3, 14, 2, 1), (256, 256, 3, 7, 1, 3))  # fmt: skip
STATE = 12  # bytes of a parameter and its two moments
PARTS = ("layers", "resnet18", "networks")
IN_BACKWARD, GRAPHS = ", stepping in backward", "CUDA graphs"
NETWORKS = ("local", "local, channels-first", f"local{IN_BACKWARD}",
            "unfold + einsum", f"unfold + einsum{IN_BACKWARD}", "conv")  # fmt: skip


@dataclass(frozen=True)
class Options(OnDevice):
    """What to measure."""

    parts: tuple[str, ...] = PARTS

    @property
    def dtype(self) -> torch.dtype:
        """What products are computed in."""
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    def autocast(self) -> AbstractContextManager[Any]:
        """For whole networks, whose weights stay in float32."""
        return nullcontext() if self.device == "cpu" else torch.autocast("cuda", self.dtype)


class UnfoldLocal2d(nn.Module):
    """The plain formulation: all patches side by side, then one product per position.

    Takes over a locally connected layer's filters; only what residual networks need.
    """

    def __init__(self, layer: LocallyConnected2d) -> None:
        super().__init__()
        g = layer.geometry
        self.kernel, self.stride, self.padding = g.kernel_size, g.stride, g.before
        self.output_size = g.output_size
        filters = layer.weight.detach().flatten(3).flatten(0, 1)  # (positions, O, C k k)
        self.weight = nn.Parameter(filters.permute(1, 2, 0).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        patches = functional.unfold(x, self.kernel, padding=self.padding, stride=self.stride)
        y = torch.einsum("nip,oip->nop", patches, self.weight)
        return y.reshape(*y.shape[:2], *self.output_size)


def with_unfold(model: nn.Module) -> nn.Module:
    """The same network with every locally connected layer in the plain formulation."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LocallyConnected2d):
                setattr(module, name, UnfoldLocal2d(child))
    return model


def agreement(device: str) -> float:
    """Largest relative difference of outputs and gradients between the two formulations."""
    worst = 0.0
    for c, o, kernel, size, stride, _ in RESNET20[1:4]:
        layer = LocallyConnected2d(
            c, o, kernel, size, stride, kernel // 2, bias=False, device=device
        )
        plain = UnfoldLocal2d(layer)
        x = torch.randn(4, c, size, size, device=device, requires_grad=True)
        results = []
        for module in (layer, plain):
            y = module(x)
            upstream = torch.linspace(-1, 1, y.numel(), device=device).view_as(y)
            grad_x, grad_w = torch.autograd.grad(y, (x, module.weight), upstream)
            if module is layer:
                grad_w = grad_w.flatten(3).flatten(0, 1).permute(1, 2, 0)
            results.append((y, grad_x, grad_w))
        for a, b in zip(*results, strict=True):
            worst = max(worst, float(((a - b).abs().max() / b.abs().max()).detach()))
    return worst


def single_layers(options: Options, shapes: Sequence[tuple[int, ...]]) -> list[dict[str, Any]]:
    """Layers one by one. FLOP/s and bytes/s count what must be done, forward and backward."""
    flops, bandwidth = limits(options.device, options.dtype, options.repeats)
    new: dict[str, Any] = {"device": options.device, "dtype": options.dtype}
    rows = []
    for c, o, kernel, size, stride, count in shapes:
        settings = (c, o, kernel, size, stride, kernel // 2)
        local = LocallyConnected2d(*settings, bias=False, **new)
        conv: Any = nn.Conv2d(c, o, kernel, stride, kernel // 2, bias=False, **new)
        conv = conv.to(memory_format=torch.channels_last)
        modules = {"local": local, "unfold": UnfoldLocal2d(local), "conv": conv}
        if options.device != "cpu":
            modules["matmul"] = LocallyConnected2d(
                *settings, bias=False, backend="matmul", init=lambda w: None, **new
            )
            modules["matmul"].weight = local.weight
        x = torch.randn(options.batch, c, size, size, **new)
        fast = x.contiguous(memory_format=torch.channels_last)
        inputs = {name: x if name == "unfold" else fast for name in modules}

        def forward(name: str, modules: Any = modules, inputs: Any = inputs) -> None:
            with torch.no_grad():
                modules[name](inputs[name])

        def both(name: str, modules: Any = modules, inputs: Any = inputs) -> None:
            seen = inputs[name].detach().requires_grad_()
            y = modules[name](seen)
            torch.autograd.grad(y, (seen, modules[name].weight), torch.ones_like(y))

        row: dict[str, Any] = {"shape": f"{count} x {c}->{o} k{kernel} @{size}/{stride}"}
        for what, work in (("forward", forward), ("both", both)):
            works = [lambda n=name, w=work: w(n) for name in modules]
            kinds = {what: [captured(work, options.device) for work in works]}
            if options.device != "cpu" and what == "both":
                kinds["both, eager"] = works
            for kind, measured in kinds.items():
                times = interleaved(measured, options.repeats, options.device)
                row |= {f"{name} {kind}, ms": t for name, t in zip(modules, times, strict=True)}
        elements = options.batch * (c * size**2 + o * local.geometry.positions)
        done = 6 * options.batch * local.weight.numel() / row["local both, ms"] / 1e6
        moved = 3 * (local.weight.numel() + elements) * x.element_size()
        row |= {"GFLOP/s": done, "of a product": done / flops}
        row["of a copy's bytes/s"] = moved / row["local both, ms"] / 1e6 / bandwidth
        rows.append(row | {"count": count})
    return rows


def network(name: str, options: Options, batch: int) -> tuple[nn.Module, Tensor]:
    """A ResNet-20 and its input, laid out as suits it or as the name says."""
    x = torch.randn(batch, 3, 32, 32, device=options.device)
    model: Any = resnet20(connectivity="conv" if name == "conv" else "local").to(options.device)
    if name.startswith("unfold + einsum"):
        return with_unfold(model), x
    if name == "local, channels-first":
        return model, x
    if name == "conv":
        model = model.to(memory_format=torch.channels_last)
    return model, x.contiguous(memory_format=torch.channels_last)


def training(
    model: nn.Module,
    called: Callable[[Tensor], Tensor],
    x: Tensor,
    options: Options,
    *,
    in_backward: bool = False,
) -> dict[str, Callable[[], None]]:
    """The three things that are timed; `called` is the model, or what compiling made of it."""
    target = torch.randint(10, (len(x),), device=x.device)
    optimizer = AdamW(model.parameters(), lr=1e-4, fused=True)
    if in_backward:
        step_in_backward(optimizer)

    def begin() -> None:
        if options.device != "cpu":  # for CUDA graphs: results of the last call may be replaced
            torch.compiler.cudagraph_mark_step_begin()

    def forward() -> None:
        begin()
        with torch.no_grad(), options.autocast():
            called(x)

    def both() -> None:
        begin()
        model.zero_grad(set_to_none=True)
        with options.autocast():
            loss = functional.cross_entropy(called(x), target)
        loss.backward()

    def step() -> None:
        both()
        optimizer.step()

    return {"forward": forward, "forward + backward": both, "step": step}


def networks(options: Options) -> dict[str, dict[str, float]]:
    """ResNet-20: ours, unfold + einsum, and convolutional; on a GPU compiled as well, twice."""
    torch.manual_seed(0)
    works: dict[str, dict[str, Callable[[], None]]] = {}
    models: dict[str, nn.Module] = {}
    for name in NETWORKS:
        model, x = network(name, options, options.batch)
        early = name.endswith(IN_BACKWARD)
        works[name] = training(model, model, x, options, in_backward=early)
        models[name] = model
        if options.device != "cpu" and "," not in name:
            for how in ("compiled", GRAPHS):
                compiled = compile_network(model, cuda_graphs=how == GRAPHS)
                works[f"{name}, {how}"] = training(model, compiled, x, options)
                models[f"{name}, {how}"] = model
    results: dict[str, dict[str, float]] = {name: {} for name in works}
    for what in works["local"]:
        times = interleaved([w[what] for w in works.values()], options.repeats, options.device)
        for name, value in zip(works, times, strict=True):
            results[name][f"{what}, ms"] = value
    for name, work in works.items():
        results[name] |= memory(models[name], work["step"], options.device)
        if name.endswith(GRAPHS):  # a replay allocates nothing: its memory was there before
            results[name] |= dict.fromkeys(("beyond them, MiB", "peak, MiB"), float("nan"))
    return results


def memory(model: nn.Module, step: Callable[[], None], device: str) -> dict[str, float]:
    """MiB of live tensors at the worst moment of a training step."""
    state = STATE * sum(p.numel() for p in model.parameters()) / MIB
    step()  # makes the moments
    model.zero_grad(set_to_none=True)
    beyond = peak_memory(step, device)  # gradients and activations
    return {
        "parameters + moments, MiB": state,
        "beyond them, MiB": beyond,
        "peak, MiB": state + beyond,
    }


def large_batch(options: Options, batch: int = 256) -> dict[str, dict[str, float]]:
    """Memory alone, at a larger batch."""
    found = {}
    for name in ("local", "unfold + einsum"):
        model, x = network(name, options, batch)
        step = training(model, model, x, options)["step"]
        found[name] = memory(model, step, options.device)
    return found


def layer_targets(options: Options, layers: list[dict[str, Any]]) -> list[Target]:
    """What ResNet-20's layers by themselves must reach, on a GPU."""
    if options.device == "cpu":
        return []
    alone = {
        kind: sum(row["count"] * row[f"unfold {kind}, ms"] for row in layers)
        / sum(row["count"] * row[f"local {kind}, ms"] for row in layers)
        for kind in ("both", "both, eager")
    }
    return [
        Target("layers alone, times faster than unfold + einsum", alone["both"], 10, True),
        Target("the same, started by Python", alone["both, eager"], 10, True),
    ]


def network_targets(
    options: Options, found: dict[str, dict[str, float]], large: dict[str, dict[str, float]]
) -> list[Target]:
    """What networks must reach; of eager and compiled ones the fastest counts."""

    def best(name: str, key: str) -> float:
        return min(row[key] for other, row in found.items() if other.split(",")[0] == name)

    def share(rows: dict[str, dict[str, float]], key: str, how: str = "") -> float:
        return rows[f"local{how}"][key] / rows[f"unfold + einsum{how}"][key]

    step = {name: best(name, "step, ms") for name in ("local", "unfold + einsum", "conv")}
    faster = step["unfold + einsum"] / step["local"]
    slower = step["local"] / step["conv"]
    beyond = share(found, "beyond them, MiB")
    early = share(found, "peak, MiB", IN_BACKWARD)
    if options.device == "cpu":
        return [
            Target("step, times faster than unfold + einsum in its fastest form", faster, 4, True),
            Target("step, times the conv network's", slower, 2.7, False),
            Target("peak memory, of unfold's", share(found, "peak, MiB"), 0.6, False),
            Target("peak memory, of unfold's, both stepping in backward", early, 0.6, False),
            Target("beyond parameters and moments, of unfold's", beyond, 0.35, False),
            Target("peak memory at batch 256, of unfold's", share(large, "peak, MiB"), 0.4, False),
        ]
    eager = found["unfold + einsum"]["step, ms"] / found["local"]["step, ms"]
    gradients = found["local"]["parameters + moments, MiB"] / 3
    activations = [found[n]["beyond them, MiB"] - gradients for n in ("local", "unfold + einsum")]
    return [
        Target("step, times faster than unfold + einsum, eager both", eager, 4, True),
        Target("step, times faster than unfold + einsum, each as fast as it goes", faster, 4, True),
        Target("step, times the conv network's", slower, 2.5, False),
        Target("peak memory, of unfold's", share(found, "peak, MiB"), 0.45, False),
        Target("peak memory, of unfold's, both stepping in backward", early, 0.45, False),
        Target("beyond state, of unfold's", activations[0] / activations[1], 1 / 3, False),
    ]


def main(options: Options) -> int:
    """Measure, print, keep."""
    options.check()
    lines: list[str] = []

    def say(more: list[str]) -> None:
        lines.extend(more)
        print("\n".join(more), flush=True)

    worst = agreement(options.device)
    say([f"ours and unfold + einsum agree within {worst:.1e}, outputs and gradients"])
    if not worst < 1e-4:
        print("they must agree within 1e-4: no speed is measured")
        return 1
    results: dict[str, Any] = {"options": asdict(options) | {"out": None}, "agreement": worst}
    reached: list[Target] = []
    if "layers" in options.parts:
        results["layers"] = single_layers(options, RESNET20)
        say(shown(f"layers of ResNet-20, batch {options.batch}", results["layers"], 2))
        reached += layer_targets(options, results["layers"])
    if "resnet18" in options.parts and options.device != "cpu":
        results["resnet18"] = single_layers(options, RESNET18)
        title = f"layers of half-width ResNet-18, batch {options.batch}"
        say(shown(title, results["resnet18"], 2))
    if "networks" in options.parts:
        found = results["networks"] = networks(options)
        rows = [{f"ResNet-20, batch {options.batch}": name} | row for name, row in found.items()]
        say(shown("networks", rows, 1))
        large: dict[str, dict[str, float]] = {}
        if options.device == "cpu":
            large = results["large batch"] = large_batch(options)
            rows = [{"ResNet-20, batch 256": name} | row for name, row in large.items()]
            say(shown("memory", rows, 1))
        reached += network_targets(options, found, large)
    say(["", *(target.line() for target in reached)])
    results["targets"] = {t.name: [t.value, t.bound] for t in reached}
    which = "" if {*options.parts} == {*PARTS} else f"-{'-'.join(options.parts)}"
    keep(options.out, f"layers-{options.device}-{options.batch}{which}", lines, results)
    return 0


if __name__ == "__main__":
    parser = device_command_line(__doc__, repeats=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    execute(parser, Options.given, main)
