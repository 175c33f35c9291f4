"""How fast and how small low-rank layers are, beside the textbook's K convolutions.

    python -m experiments.performance.low_rank [--device cpu|cuda] [--batch N] [--out FOLDER]

First, all forms and the textbook's (K convolutions, multiply, add) must agree on outputs and
gradients; no speed is printed while they do not. Then, interleaved in one run: single layers by
shape, rank and batch, forward + backward, with the form that "auto" chooses; a training step of
the published network at K = 4 with its third layer in each form; and the peak memory of live
tensors beyond what was alive before. FLOPs are those of the experiment `lrlc-flops`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.performance.measure import interleaved, peak_memory
from experiments.performance.parts import OnDevice, device_command_line, execute, keep, shown
from neurosim.models import lrlc
from neurosim.models.lrlc import Layer
from neurosim.nn import LowRankLocal2d
from neurosim.nn.ops.low_rank import choose_form

# Channels in and out, input size, rank, and the batch as a part of the whole one.
SHAPES = (
    (3, 64, 32, 4, 1), (64, 64, 30, 4, 1), (64, 64, 28, 2, 1), (64, 64, 28, 4, 1),
    (64, 64, 28, 8, 1), (64, 64, 28, 4, 1 / 4), (64, 64, 28, 4, 1 / 8), (16, 16, 16, 4, 1),
)  # fmt: skip
RANK = 4
KINDS: dict[str, Layer] = {"fixed": "low-rank", "input-dependent": "input-dependent"}


class Textbook(nn.Module):
    """A low-rank layer as Algorithm 1 has it: K convolutions, each multiplied and added."""

    def __init__(self, layer: LowRankLocal2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H', W')."""
        combining, total = self.layer.combine(x), None
        for k, bank in enumerate(self.layer.bases[0]):
            weighted = functional.conv2d(x, bank) * combining[..., k : k + 1, :, :]
            total = weighted if total is None else total + weighted
        offsets = self.layer.offsets()
        assert total is not None
        return total if offsets is None else total + offsets


def channels_last(x: Tensor) -> Tensor:
    """As training feeds images."""
    return x.contiguous(memory_format=torch.channels_last)


def both(module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients of a module."""
    seen = x.detach().requires_grad_()
    y = module(seen)
    wanted = [seen, *module.parameters()]
    return (y, *torch.autograd.grad(y, wanted, torch.ones_like(y)))


def forms(layer: LowRankLocal2d) -> dict[str, nn.Module]:
    """The same layer in every form; they share its parameters."""
    made: dict[str, nn.Module] = {"textbook": Textbook(layer)}
    for form in ("wide",) if layer.input_dependent else ("wide", "local"):
        other = LowRankLocal2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.input_size, layer.rank,
            bias=False, input_dependent=layer.input_dependent, form=form,
        )  # fmt: skip
        other.bases, other.combine = layer.bases, layer.combine
        other.spatial_bias = layer.spatial_bias
        made[form] = other
    return made


def agreement(device: str) -> float:
    """Largest relative difference of outputs and gradients between the forms."""
    torch.backends.cudnn.allow_tf32 = False  # whose convolutions would be compared to 10 bits
    try:
        return _agreement(device)
    finally:
        torch.backends.cudnn.allow_tf32 = True


def _agreement(device: str) -> float:
    worst = 0.0
    for dependent in (False, True):
        layer = LowRankLocal2d(8, 6, 3, 12, RANK, bias=False, input_dependent=dependent)
        if not dependent:
            for table in layer.combine.parameters():
                nn.init.normal_(table)
        layer = layer.to(device)
        x = channels_last(torch.randn(20, 8, 12, 12, device=device))
        expected, *others = (both(m, x) for m in forms(layer).values())
        for found in others:
            for a, b in zip(found, expected, strict=True):
                worst = max(worst, float(((a - b).abs().max() / b.abs().max()).detach()))
    return worst


def single_layers(options: OnDevice) -> list[dict[str, Any]]:
    """Forward + backward by shape; the form that is chosen, and whether it was the fastest."""
    rows = []
    for inputs, outputs, size, rank, part in SHAPES:
        batch = max(1, int(options.batch * part))
        x = channels_last(torch.randn(batch, inputs, size, size, device=options.device))
        for dependent in (False, True):
            if dependent and (rank, part) != (RANK, 1):
                continue
            layer = LowRankLocal2d(
                inputs, outputs, 3, size, rank, bias=False, input_dependent=dependent
            ).to(options.device)
            made = forms(layer)
            works = [lambda m=m, x=x: both(m, x) for m in made.values()]
            times = dict(
                zip(made, interleaved(works, options.repeats, options.device), strict=True)
            )
            chosen = choose_form(x, layer.combine(x), layer.bases[0])
            kind = "input-dependent" if dependent else "fixed"
            row: dict[str, Any] = {
                "layer": f"{inputs}->{outputs} @{size} K={rank} N={batch} {kind}"
            }
            for name in ("textbook", "wide", "local"):
                row[f"{name}, ms"] = times.get(name, float("nan"))
            for name in ("textbook", "wide", "local"):
                found = (
                    peak_memory(works[list(made).index(name)], options.device)
                    if (name in made)
                    else float("nan")
                )
                row[f"{name}, MiB"] = found
            rows.append(row | {"chosen": chosen, "x textbook": times["textbook"] / times[chosen]})
    return rows


def networks(options: OnDevice) -> list[dict[str, Any]]:
    """A training step of the published network at K = 4, its third layer in every form."""
    torch.manual_seed(0)
    x = channels_last(torch.randn(options.batch, 3, 32, 32, device=options.device))
    y = torch.randint(10, (options.batch,), device=options.device)
    models: dict[str, nn.Module] = {"conv": lrlc(layer="conv")}
    for kind, layer in KINDS.items():
        low: Any = lrlc(layer=layer, rank=RANK)
        for form, module in forms(low.conv3).items():
            made: Any = lrlc(layer=layer, rank=RANK)
            made.conv3 = module
            models[f"{kind}, {form}"] = made
    works: list[Callable[[], None]] = []
    for model in models.values():
        model.to(options.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

        def step(model: nn.Module = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()

        works.append(step)
    times = interleaved(works, options.repeats, options.device)
    return [
        {"network": name, "step, ms": time, "peak, MiB": peak_memory(work, options.device)}
        for name, time, work in zip(models, times, works, strict=True)
    ]


def targets(networks: Sequence[dict[str, Any]]) -> list[str]:
    """What was aimed for: faster and smaller than the textbook form."""
    found, lines = {row["network"]: row for row in networks}, []
    for kind, form in (("fixed", "local"), ("input-dependent", "wide")):
        ours, textbook = found[f"{kind}, {form}"], found[f"{kind}, textbook"]
        for what, word in (("step, ms", "faster"), ("peak, MiB", "smaller")):
            ratio = textbook[what] / ours[what]
            verdict = "met" if ratio > 1 else "NOT MET"
            lines.append(
                f"{kind}, K = {RANK}: {ratio:.2f} times {word} than the textbook: {verdict}"
            )
    return lines


def main(options: OnDevice) -> int:
    """Measure, print, keep."""
    options.check()
    worst = agreement(options.device)
    lines = [f"all forms agree within {worst:.1e}, outputs and gradients"]
    print(lines[0], flush=True)
    if not worst < 1e-4:
        print("they must agree within 1e-4: no speed is measured")
        return 1
    layers = single_layers(options)
    lines += shown("layers, forward + backward", layers, 2)
    steps = networks(options)
    lines += shown(f"the published network, batch {options.batch}", steps, 1)
    lines += ["", *targets(steps)]
    print("\n".join(lines[1:]), flush=True)
    results = {
        "options": {"device": options.device, "batch": options.batch},
        "agreement": worst, "layers": layers, "networks": steps,
    }  # fmt: skip
    keep(options.out, f"low-rank-{options.device}-{options.batch}", lines, results)
    return 0


if __name__ == "__main__":
    execute(device_command_line(__doc__, repeats=3), OnDevice.given, main)
