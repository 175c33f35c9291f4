"""Which weights of a network the penalty is for."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from neurosim.errors import require

NORMS = (nn.LayerNorm, nn.RMSNorm)  # which may have a number for every position of a map


def layer_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights of linear, convolutional and locally connected layers, by the layer's name.

    Biases, also those with a value for every position, and parameters of normalisation are not
    among them. A weight that several layers share is the first one's.
    """
    found: dict[int, tuple[str, Tensor]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim >= 2 and not isinstance(module, NORMS):
            found.setdefault(id(weight), (name or "layer", weight))
    return dict(found.values())


def lasso_groups(
    model: nn.Module, l1: float, first: float | None = None, by_layer: Mapping[str, float] = {}
) -> list[dict[str, Any]]:
    """Parameter groups for `BetaLasso`: a penalty for every layer's weight, none for the rest.

    A higher lambda for the layer that takes the convolution's place improves results (Sec. 4.1):
    `first` is the penalty of the model's first layer, `by_layer` those of layers
    whose names match a pattern, and `l1` that of all others.
    """
    weights = {n: w for n, w in layer_weights(model).items() if w.requires_grad}
    for pattern in by_layer:
        matches = any(fnmatchcase(name, pattern) for name in weights)
        known = ", ".join(weights)
        require(matches, "by_layer", pattern, f"a pattern that some layer matches ({known})")
    groups: dict[float, dict[str, Any]] = {}
    for number, (name, weight) in enumerate(weights.items()):
        own = [value for pattern, value in by_layer.items() if fnmatchcase(name, pattern)]
        start = l1 if first is None or number else first
        penalty = own[-1] if own else start
        groups.setdefault(penalty, {"params": [], "l1": penalty})["params"].append(weight)
    taken = {id(weight) for weight in weights.values()}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    return [*groups.values(), *([{"params": rest, "l1": 0.0}] if rest else [])]
