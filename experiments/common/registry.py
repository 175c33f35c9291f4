"""The experiments by name, without importing any of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from neurosim.errors import require_choice

if TYPE_CHECKING:
    from experiments.common.variants import Variant


class Entry(NamedTuple):
    """Where an experiment is, and what it is about."""

    function: str  # module:name below experiments
    summary: str
    variants: str | None = None
    """Name of the function in the same module that takes what the experiment takes, in the same
    order, and returns the networks that it trains, a list of `Variant`; None where there is none
    to look at before it runs."""


EXPERIMENTS = {
    "fig4a": Entry("dynamic_sharing.fig4a:run", "the ideal rule (Eq. 4) reaches Eq. 5's minimum"),
    "fig4b": Entry(
        "dynamic_sharing.fig4b:run", "the circuit (Eq. 8) equalises in minutes, then drifts"
    ),
    "fig5a": Entry("dynamic_sharing.fig5a:run", "where finite inhibition (Eq. 21) leads"),
    "fig5b": Entry("dynamic_sharing.fig5b:run", "the rate circuit beside the same limits"),
    "theorem1": Entry("dynamic_sharing.theorem1:run", "what per-neuron noise leaves of sharing"),
    "integrators": Entry("dynamic_sharing.integrators:run", "error of every integrator against dt"),
    "digits": Entry(
        "dynamic_sharing.digits:run", "what sleep recovers, in minutes on any machine", "variants"
    ),
    "sleep": Entry(
        "dynamic_sharing.sleep:run", "the circuit itself as a network's sleep (ours)", "variants"
    ),
    "table1": Entry(
        "dynamic_sharing.table1:run", "ResNet-20: conv, local, repetitions, sleep", "variants"
    ),
    "table2": Entry(
        "dynamic_sharing.table2:run", "ResNet-18 on ImageNet: conv, local, sleep", "variants"
    ),
    "table13": Entry(
        "dynamic_sharing.table2:run_conv_first",
        "with a convolutional first layer",
        "variants_conv_first",
    ),
    "layerwise": Entry("dynamic_sharing.layerwise:run", "layers that show each other patterns"),
    "table3": Entry("dynamic_sharing.table3:run", "Brain-Score, as far as local data reach"),
    "brains": Entry(
        "dynamic_sharing.brains:run", "trained networks, macaque V4 and IT (ours)", "variants"
    ),
    "fig6": Entry("dynamic_sharing.fig6:run", "weights diverge between sleeps", "variants"),
    "lrlc-table1": Entry(
        "low_rank.table1:run", "low-rank layers against shared filters", "variants"
    ),
    "lrlc-table2": Entry(
        "low_rank.table2:run", "low-rank layers against other baselines", "variants"
    ),
    "lrlc-table3": Entry(
        "low_rank.table3:run", "combining weights, fixed or of the input", "variants"
    ),
    "lrlc-rank-sweep": Entry(
        "low_rank.rank_sweep:run", "accuracy against the spatial rank", "variants"
    ),
    "lrlc-init": Entry(
        "low_rank.init:run", "low-rank layers that start as convolutions or not", "variants"
    ),
    "lrlc-factorized": Entry(
        "low_rank.factorized:run", "of rows and columns, or of positions", "variants"
    ),
    "lrlc-params": Entry(
        "low_rank.params:run", "accuracy against the number of parameters", "variants"
    ),
    "lrlc-flops": Entry("low_rank.flops:run", "FLOPs and memory against the rank, measured"),
    "lrlc-sleeping": Entry(
        "low_rank.sleeping:run", "how low-rank sleeping networks are (ours)", "variants"
    ),
    "free-table1": Entry("free_conv.table1:run", "free and shared nets on translated MNIST"),
    "free-table2": Entry("free_conv.table2:run", "free and shared nets on translated CIFAR-10"),
    "free-tableB1": Entry("free_conv.table_b1:run", "the same, trained on edge noise"),
    "free-tableB2": Entry("free_conv.table_b2:run", "the same, trained on noise"),
    "free-tableB3": Entry("free_conv.table_b3:run", "the same, trained on rotations"),
    "free-fig3": Entry("free_conv.fig3:run", "accuracies of Table 1 over epochs"),
    "free-fig4": Entry("free_conv.fig4:run", "accuracies of Table 2 over epochs"),
    "free-fig5": Entry("free_conv.fig5:run", "translated images make free filters alike"),
    "free-fig6": Entry("free_conv.fig6:run", "what networks see with quadrants swapped"),
    "free-figB": Entry("free_conv.fig_b:run", "rotations and noise do not make filters alike"),
    "free-routes": Entry("free_conv.routes:run", "data and sleep as routes to sharing (ours)"),
    "free-figC": Entry("free_conv.fig_c:run", "free nets with most connections absent"),
    "betalasso-table1": Entry(
        "beta_lasso.table1:run", "what depth, locality and sharing are worth", "variants"
    ),
    "betalasso-table2": Entry("beta_lasso.table2:run", "S-FC by SGD and by beta-LASSO", "variants"),
    "betalasso-nonzeros": Entry(
        "beta_lasso.nonzeros:run", "what is left of every layer (Fig. 3)", "variants"
    ),
    "betalasso-filters": Entry(
        "beta_lasso.filters:run", "learned filters are local (Fig. 4)", "variants"
    ),
    "betalasso-kernels": Entry(
        "beta_lasso.kernels:run", "ResNet-18 of any kernel size (Fig. 5)", "variants"
    ),
    "betalasso-scaling": Entry(
        "beta_lasso.scaling:run", "parameters by size and need (Figs. 1, 2)", "variants"
    ),
    "from-scratch": Entry(
        "beta_lasso.from_scratch:run", "learn locality, then share in sleep", "variants"
    ),
}


EXPORTS = {
    "brainscore": Entry(
        "commands.export:run", "a model plugin folder in the form Brain-Score accepts"
    ),
}


def command(name: str) -> Entry:
    """A command, by the name of its module."""
    return Entry(f"commands.{name}:run", "")


def experiment(name: str) -> Callable[..., Any]:
    """The function that runs an experiment."""
    require_choice("experiment", name, EXPERIMENTS)
    return load(EXPERIMENTS[name])


def load(entry: Entry) -> Callable[..., Any]:
    """The function itself."""
    return _find(entry.function)


def variants_of(entry: Entry) -> Callable[..., list[Variant]] | None:
    """What lists the networks of an experiment, if it trains any that are known before."""
    if entry.variants is None:
        return None
    module, _, _ = entry.function.partition(":")
    return _find(f"{module}:{entry.variants}")


def _find(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(import_module(f"experiments.{module}"), name)
