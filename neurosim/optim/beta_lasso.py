"""beta-LASSO (Neyshabur 2020, Algorithm 1): an l1 penalty, and a threshold for weights to pass."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from neurosim.errors import InvalidArgument, require
from neurosim.optim.step import Update, step_of

LOOK_EVERY = 100  # steps between looks for layers without any weight left


class BetaLasso(Optimizer):
    """Gradient descent that leaves no small weight.

        theta <- theta - lr (grad + l1 sign(theta))        line 2 of Algorithm 1
        theta <- theta if |theta| >= beta l1 else 0        line 3

    `beta=0` is the subgradient method for LASSO, `l1=0` is SGD. A weight that is zero returns
    when a single step takes it past the threshold. Tensors with fewer than two axes, biases and
    what normalisation learns, take plain steps unless their group sets `vectors`; `lasso_groups`
    makes groups that also know of layers, and gives the first a penalty of its own.

    Args:
        params: parameters, or groups that may have their own `lr`, `l1`, `beta`, `momentum`,
            `adam` and `vectors`.
        lr: the rate eta.
        l1: the penalty lambda.
        beta: how many times the penalty a weight must have to stay.
        momentum: of line 2, on gradient and penalty together, as torch's SGD has weight decay in
            its momentum. The penalty is then in effect 1 / (1 - momentum) times as large.
        adam: (beta1, beta2) for a line 2 in the manner of AdamW: the gradient is replaced by
            Adam's ratio of moments, and the penalty stays as it is.
        vectors: whether tensors with fewer than two axes are penalised, too.
        backend: "auto", "reference", "foreach" (anywhere), "cpu" or "triton"; see `step`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        l1: float,
        beta: float = 50.0,
        momentum: float = 0.0,
        *,
        adam: tuple[float, float] | None = None,
        vectors: bool = False,
        backend: str = "auto",
    ) -> None:
        step_of(backend, [])
        self.backend = backend
        self._steps: Counter[int] = Counter()  # of each parameter
        self._told: set[int] = set()
        defaults = {
            "lr": lr, "l1": l1, "beta": beta, "momentum": momentum, "adam": adam,
            "vectors": vectors,
        }  # fmt: skip
        super().__init__(params, defaults)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or a pickled one, begins with; it warns of empty layers again."""
        return {**super().__getstate__(), "backend": self.backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_steps", Counter())
        self.__dict__.setdefault("_told", set())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with numbers of their own or the defaults."""
        group = {**self.defaults, **param_group}
        for name in ("lr", "l1", "beta"):
            value = group[name]
            require(0 <= value < math.inf, name, value, "finite and >= 0")
        require(0 <= group["momentum"] < 1, "momentum", group["momentum"], "at least 0, below 1")
        adam = group["adam"]
        valid = adam is None or (len(adam) == 2 and all(0 <= b < 1 for b in adam))
        require(valid, "adam", adam, "None or two numbers that are at least 0 and below 1")
        if adam is not None and group["momentum"]:
            raise InvalidArgument(
                f"momentum must be 0 with adam, which has its own, got {group['momentum']}"
            )
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient; what the closure returns, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            if loss is None:
                raise InvalidArgument("closure must return the loss, got None")
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for parameter in moving:
                if parameter.grad.layout is not torch.strided:
                    raise InvalidArgument(
                        "gradients must be dense for beta-LASSO, which moves every weight, got a "
                        f"{parameter.grad.layout} one of shape {tuple(parameter.shape)}: build "
                        "the embedding with sparse=False"
                    )
            everything = group["vectors"]
            self._update(group, [p for p in moving if everything or p.ndim >= 2], group["l1"])
            if not everything:
                self._update(group, [p for p in moving if p.ndim < 2], 0.0)
        self._look()
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor], l1: float) -> None:
        """Lines 2 and 3 for parameters with the same penalty."""
        if not parameters:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = None
        if group["adam"] is not None:
            gradients = [self._ratio(p, group["adam"]) for p in parameters]
        elif group["momentum"]:
            momenta = [self._kept(p, "momentum") for p in parameters]
        by = Update(float(group["lr"]), l1, group["beta"] * l1, group["momentum"])
        step_of(self.backend, parameters)(parameters, gradients, momenta, by)

    def _ratio(self, parameter: Tensor, betas: tuple[float, float], eps: float = 1e-8) -> Tensor:
        """Adam's direction: the mean gradient over the root of its mean square, both unbiased."""
        assert parameter.grad is not None
        first, second = (self._kept(parameter, name) for name in ("first", "second"))
        state = self.state[parameter]
        state["steps"] = state.get("steps", 0) + 1
        first.lerp_(parameter.grad, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(parameter.grad, parameter.grad, value=1 - betas[1])
        unbias = [1 - beta ** state["steps"] for beta in betas]
        return first / unbias[0] / (second / unbias[1]).sqrt_().add_(eps)

    def _kept(self, parameter: Tensor, name: str) -> Tensor:
        """What is remembered of a parameter, 0 at first, laid out in memory as it is."""
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]

    def _look(self) -> None:
        """Warn of layers that the threshold has emptied, once for each; one wait for the device."""
        moved = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        looked = [
            (group, p)
            for group, p in moved
            if group["l1"] * group["beta"] and p.numel() and (p.ndim >= 2 or group["vectors"])
            if id(p) not in self._told and self._steps[id(p)] % LOOK_EVERY == 0
        ]
        self._steps.update(id(p) for _, p in moved)
        if not looked:
            return
        device = looked[0][1].device
        alive = torch.stack([p.any().to(device) for _, p in looked]).tolist()
        for (group, p), some in zip(looked, alive, strict=True):
            if some:
                continue
            self._told.add(id(p))
            threshold = group["beta"] * group["l1"]
            warnings.warn(
                f"all {p.numel():,} weights of shape {tuple(p.shape)} are below the threshold "
                f"beta * l1 = {threshold:g} and were set to 0: lower l1 = {group['l1']:g} or "
                f"beta = {group['beta']:g}, for this layer or for all",
                stacklevel=2,
            )
