"""Fig. 5: residual networks with filters of any size.

Claim: beta-LASSO improves ResNet-18 over SGD for every size of its filters, and more for large
ones, of which it learns what to use. (The published figure has no numbers to print beside.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from experiments.beta_lasso.measures import remains, remains_table, write_remains
from experiments.beta_lasso.setting import Lasso
from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant, report, run_variants
from neurosim.errors import require
from neurosim.training import NetworkSettings


@dataclass(frozen=True)
class Kernels:
    """Which networks."""

    kernels: tuple[int, ...] = (3, 5, 7, 9)
    """Sizes of all filters, odd."""
    width: float = 1.0
    """Factor on the number of channels."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        odd = self.kernels and all(k >= 1 and k % 2 for k in self.kernels)
        require(odd, "--kernels", self.kernels, "one or more odd sizes")


def variants(study: Kernels, lasso: Lasso, options: TrainingOptions) -> list[Variant]:
    """Every size by SGD and by beta-LASSO, with the same penalty in all layers."""
    base = lasso.base(options)
    rows = []
    for kernel in study.kernels:
        network = NetworkSettings("resnet18-small", "conv", kernel=kernel, width=study.width)
        plain = replace(base, network=network)
        sparse = replace(lasso, first=1.0).lasso(plain)
        rows += [Variant(f"{kernel}x{kernel}-sgd", plain)]
        rows += [Variant(f"{kernel}x{kernel}-beta{lasso.beta:g}", sparse)]
    return rows


def run(study: Kernels, lasso: Lasso, options: TrainingOptions) -> Report:
    """Fig. 5: ResNet-18 with filters of several sizes, by SGD and by beta-LASSO.

    Args:
        study: Which networks.
        lasso: The penalty and rates.
        options: What to train on, how long, and where results go.
    """
    study.check()
    lasso.check()
    name = "betalasso-kernels"
    folder, outcomes = run_variants(name, variants(study, lasso, options), options, (0,))
    found = report(name, folder, outcomes, {})
    left = remains(outcomes)
    write_remains(folder / f"{name}-weights.csv", left)
    found.values["weights"] = [vars(one) for one in left]
    if len(left) < 12:
        found.lines += ["", *remains_table(left)]
    return found
