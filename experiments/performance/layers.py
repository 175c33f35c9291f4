"""How fast and how small locally connected layers are, beside convolutions and unfold + einsum.

    python -m experiments.performance.layers [--device cpu|cuda] [--batch N] [--out FOLDER]

First, our layer and the unfold + einsum formulation must agree on outputs and gradients; no
speed is printed while they do not. Then, side by side in one run and interleaved, because
machines are noisy: the layer shapes of ResNet-20 (forward, and forward + backward), and the whole
networks (forward, forward + backward, a full AdamW step, peak memory of live tensors).
Convolutions run channels-last, as fast as they go.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from experiments.performance.machine import machine
from experiments.report import as_json, table
from neurosim.errors import InvalidArgument, require
from neurosim.models import resnet20
from neurosim.nn import LocallyConnected2d

# Channels in and out, input size, stride, and how many of them ResNet-20 has.
SHAPES = ((3, 16, 32, 1, 1), (16, 16, 32, 1, 6), (16, 32, 32, 2, 1), (32, 32, 16, 1, 5),
          (32, 64, 16, 2, 1), (64, 64, 8, 1, 5))  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to measure."""

    device: str = "cpu"
    batch: int = 64
    repeats: int = 5
    out: Path | None = None


class UnfoldLocal2d(nn.Module):
    """The plain formulation: all patches side by side, then one product per position.

    Takes over a locally connected layer's filters; only what ResNet-20 needs.
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
    for c, o, size, stride, _ in SHAPES[1:4]:
        layer = LocallyConnected2d(c, o, 3, size, stride, 1, bias=False, device=device)
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


def interleaved(works: Sequence[Callable[[], Any]], repeats: int, device: str) -> list[float]:
    """Milliseconds of the fastest of `repeats` calls of each, taken in turn."""
    best = [float("inf")] * len(works)
    for repeat in range(repeats + 1):  # the first round warms up
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            if repeat:
                best[index] = min(best[index], 1e3 * (time.perf_counter() - start))
    return best


def peak_memory(work: Callable[[], Any], device: str) -> float:
    """MiB of live tensors at the worst moment of a call, beyond those alive before it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events: Any = recorded.profiler
    moments = [e for e in events.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(moments, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / 2**20


def single_layers(options: Options) -> list[dict[str, float | str]]:
    """The shapes of ResNet-20's layers, one by one."""
    rows = []
    for c, o, size, stride, count in SHAPES:
        local = LocallyConnected2d(c, o, 3, size, stride, 1, bias=False, device=options.device)
        modules = [local, UnfoldLocal2d(local), nn.Conv2d(c, o, 3, stride, 1, bias=False)]
        modules = [module.to(options.device) for module in modules]
        modules[2].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(options.batch, c, size, size, device=options.device)
        inputs = [x.to(memory_format=torch.channels_last), x]
        inputs = [t.requires_grad_() for t in (inputs[0], inputs[1], inputs[0].clone())]

        def forward(index: int, modules: Any = modules, inputs: Any = inputs) -> None:
            with torch.no_grad():
                modules[index](inputs[index])

        def both(index: int, modules: Any = modules, inputs: Any = inputs) -> None:
            y = modules[index](inputs[index])
            torch.autograd.grad(y, (inputs[index], modules[index].weight), torch.ones_like(y))

        times = {}
        for name, work in (("forward", forward), ("both", both)):
            works = [lambda i=i, w=work: w(i) for i in range(3)]
            times[name] = interleaved(works, options.repeats, options.device)
        flop = 2 * options.batch * c * o * 9 * (size // stride) ** 2
        rows.append(
            {
                "shape": f"{count} x {c}->{o} @{size}/{stride}",
                "forward, ms": times["forward"][0],
                "unfold": times["forward"][1],
                "conv": times["forward"][2],
                "+ backward, ms": times["both"][0],
                "unfold ": times["both"][1],
                "conv ": times["both"][2],
                "GFLOP/s": 3 * flop / times["both"][0] / 1e6,
            }
        )
    return rows


def networks(options: Options) -> dict[str, dict[str, float]]:
    """ResNet-20: ours, unfold + einsum, and convolutional."""
    torch.manual_seed(0)
    device = options.device
    models = {
        "local": resnet20(connectivity="local"),
        "unfold + einsum": with_unfold(resnet20(connectivity="local")),
        "conv": resnet20(connectivity="conv"),
    }
    x = torch.randn(options.batch, 3, 32, 32, device=device)
    target = torch.randint(10, (options.batch,), device=device)
    works: dict[str, list[Callable[[], Any]]] = {
        "forward": [],
        "forward + backward": [],
        "step": [],
    }
    for name, module in models.items():
        model = module.to(device)
        seen = x
        if name != "unfold + einsum":
            seen = x.contiguous(memory_format=torch.channels_last)
        if name == "conv":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def forward(model: nn.Module = model, seen: Tensor = seen) -> None:
            with torch.no_grad():
                model(seen)

        def both(model: nn.Module = model, seen: Tensor = seen) -> None:
            model.zero_grad(set_to_none=True)
            functional.cross_entropy(model(seen), target).backward()

        def step(both: Callable[[], None] = both, optimizer: Any = optimizer) -> None:
            both()
            optimizer.step()

        for key, work in zip(works, (forward, both, step), strict=True):
            works[key].append(work)
    results: dict[str, dict[str, float]] = {name: {} for name in models}
    for key, calls in works.items():
        times = interleaved(calls, options.repeats, device)
        for name, value in zip(models, times, strict=True):
            results[name][f"{key}, ms"] = value
    for (name, model), work in zip(models.items(), works["step"], strict=True):
        parameters = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
        model.zero_grad(set_to_none=True)
        transient = peak_memory(work, device)  # gradients and activations
        results[name]["parameters + moments, MiB"] = 3 * parameters
        results[name]["peak beyond them, MiB"] = transient
        results[name]["peak, MiB"] = 3 * parameters + transient
    return results


def main(options: Options) -> int:
    """Measure, print, keep."""
    require(options.batch >= 1, "--batch", options.batch, ">= 1")
    require(options.repeats >= 1, "--repeats", options.repeats, ">= 1")
    if options.device != "cpu" and not torch.cuda.is_available():
        raise InvalidArgument(f"--device must be cpu where no GPU is found, got {options.device!r}")
    worst = agreement(options.device)
    lines = [f"ours and unfold + einsum agree within {worst:.1e}, outputs and gradients"]
    print(lines[0], flush=True)
    if not worst < 1e-4:
        print("they must agree within 1e-4: no speed is measured")
        return 1
    layers = single_layers(options)
    rows = [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in r.values()] for r in layers]
    lines += ["", f"layers of ResNet-20, batch {options.batch}", *table([*layers[0]], rows)]
    print("\n".join(lines[1:]), flush=True)
    found = networks(options)
    header = ["ResNet-20", *found["local"]]
    rows = [[name, *(f"{v:.1f}" for v in row.values())] for name, row in found.items()]
    ratios = {
        "step: times faster than unfold + einsum": found["unfold + einsum"]["step, ms"]
        / found["local"]["step, ms"],
        "step: times the conv network's": found["local"]["step, ms"] / found["conv"]["step, ms"],
        "peak memory, share of unfold + einsum's": found["local"]["peak, MiB"]
        / found["unfold + einsum"]["peak, MiB"],
        "beyond parameters and moments, share": found["local"]["peak beyond them, MiB"]
        / found["unfold + einsum"]["peak beyond them, MiB"],
    }
    text = ["", *table(header, rows), "", *(f"{k}: {v:.2f}" for k, v in ratios.items())]
    print("\n".join(text), flush=True)
    results = {
        "machine": machine() | {"torch": torch.__version__, "threads": torch.get_num_threads()},
        "options": {"device": options.device, "batch": options.batch},
        "agreement": worst, "layers": layers, "networks": found, "ratios": ratios,
    }  # fmt: skip
    print(as_json(results))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        stem = f"layers-{options.device}-{options.batch}"
        (options.out / f"{stem}.txt").write_text("\n".join(lines + text) + "\n")
        (options.out / f"{stem}.json").write_text(as_json(results) + "\n")
    return 0


if __name__ == "__main__":
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="images per batch (64)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the fastest counts (5)")
    parser.add_argument("--out", type=Path, help="folder for text and JSON")
    try:
        raise SystemExit(main(Options(**vars(parser.parse_args()))))
    except InvalidArgument as error:
        parser.error(str(error))
