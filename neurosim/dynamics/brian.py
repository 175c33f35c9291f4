"""The same circuit in Brian2: a second, independent simulator, and a network to build upon.

Brian2's own schedule is the update order of `euler`. In each step summed variables come
first, so z, the inhibition and the mean rate are those of the old w, r_inh and r; then both
groups move; plasticity follows in the slot "synapses" and sees the new r.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from neurosim.dynamics.arrays import Array
from neurosim.dynamics.circuit import RateCircuit
from neurosim.dynamics.problem import Problem, Recorder, State, Trace
from neurosim.errors import InvalidArgument, require, require_choice

Target = Literal["numpy", "cython", "cpp_standalone"]

# A step lasts 1/1024 s of Brian2's time, whatever dt is: only dt / tau matters to the circuit.
# All times are then exact, so that clocks cannot drift apart (a standalone program tells them
# apart at 1e-14 s) and no TimedArray is read a step early or late.
STEP = 2.0**-10

EXCITATORY = """
    dr/dt = (-r + clip(z - alpha_r_inh + bias, lowest, inf)) / tau : 1  # (8a)
    z : 1                                                               # w_i.x (3)
    alpha_r_inh : 1
"""
INHIBITORY = """
    dr/dt = (-r + clip(mean_r - bias, lowest, inf)) / tau : 1           # (8b)
    mean_r : 1
"""
PLASTIC = """
    z_post = w * x_pre : 1 (summed)
    w : 1
    m : 1
    w_init : 1
"""
LEARNING = """
    m = momentum * m + eta(t) * (-(r_post - bias) * x_pre - gamma * (w - w_init))
    w = w + m
"""
INHIBITION = "alpha_r_inh_post = alpha * r_pre : 1 (summed)"
POOLING = "mean_r_post = r_pre / N_pre : 1 (summed)"


class Shown(NamedTuple):
    """A few consecutive presentations, for one run of a network."""

    x: Array  # (count, D), or with noise (count, N D): an input for every synapse
    etas: Array  # (steps of all presentations,)


class Watch(NamedTuple):
    """A variable to record in one slot of every so many steps."""

    group: str
    variable: str
    when: str
    steps: int


@dataclass(frozen=True)
class Brian2:
    """Forward Euler in Brian2; does what `Euler` does.

    `target` is what Brian2 turns the equations into. "cpp_standalone" builds one program for
    all presentations, so its inputs (with noise: those of every neuron) and the weights to
    record have to fit in memory; the program is kept in `directory`, if there is one.
    """

    target: Target = "numpy"
    directory: str | None = None

    name = "brian2"

    def __post_init__(self) -> None:
        require_choice("target", self.target, get_args(Target))
        fits = self.directory is None or self.target == "cpp_standalone"
        require(fits, "directory", self.directory, 'None unless target is "cpp_standalone"')

    def check(self, problem: Problem) -> None:
        """Rates have to follow Eq. 8, and Brian2 has to be there."""
        _circuit(problem)
        _import_brian2()

    def run(self, problem: Problem, state: State, stop: int, recorder: Recorder) -> None:
        """Advance `state` to `stop` presentations, recording on the way."""
        for shown in self._parts(problem, state.presentations, stop):
            if recorder.every is None:
                self._show(problem, state, shown, [])
                continue
            # Weights are seen as presentations start. At this pace, counted from the first
            # one, all that are to be recorded are among those seen.
            first = state.presentations
            pace = math.gcd(recorder.every, first)
            watch = Watch("plastic", "w", "start", pace * problem.response.steps)
            (seen,) = self._show(problem, state, shown, [watch])
            points = [*range(first, state.presentations, pace), state.presentations]
            due = [k for k, point in enumerate(points) if k > 0 and recorder.due(point)]
            weights = np.concatenate([seen, state.weights.reshape(1, -1)])[due]
            weights = weights.reshape(-1, *problem.weights.shape)
            recorder.add([points[k] for k in due], weights.mean(1), weights.var(1))

    def trace(self, problem: Problem, state: State) -> Trace:
        """Advance `state` by one presentation and return its rates at every step."""
        (shown,) = self._parts(problem, state.presentations, state.presentations + 1)
        trace = problem.empty_trace(len(shown.etas), state.presentations)
        watches = [Watch(group, "r", "end", 1) for group in ("excitatory", "inhibitory")]
        r, r_inh = self._show(problem, state, shown, watches)
        return trace._replace(r=r, r_inh=r_inh[:, 0])

    def _parts(self, problem: Problem, start: int, stop: int) -> Iterator[Shown]:
        """What is shown: all at once to a standalone program, else a few MiB at a time."""
        longest = max(1, 2**20 // problem.weights.size)
        parts = []
        for chunk in problem.chunks(start, stop):
            for low in range(0, len(chunk.inputs), longest):
                problem.check_stop(chunk.first + low)
                part = chunk.part(low, min(len(chunk.inputs), low + longest))
                parts.append(Shown(part.inputs.reshape(len(part.inputs), -1), part.etas.ravel()))
                if self.target != "cpp_standalone":
                    yield parts.pop()
        if parts:
            yield Shown(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _show(
        self, problem: Problem, state: State, shown: Shown, watches: list[Watch]
    ) -> list[Array]:
        """Advance `state` through what is shown; what each watch saw, (times, size)."""
        with _quiet_brian2(self.target, self.directory) as (brian2, build):
            network = _network(brian2, problem, state, shown.x.shape[1])
            monitors = []
            for group, variable, when, steps in watches:
                options = {"record": True, "when": when, "name": f"{group}_monitor"}
                clock = brian2.Clock(steps * STEP * brian2.second, name=f"{group}_clock")
                monitors.append(
                    brian2.StateMonitor(network[group], variable, clock=clock, **options)
                )
            network.add(monitors)
            constants = _constants(brian2, problem, shown)
            network.run(len(shown.etas) * STEP * brian2.second, namespace=constants)
            build()
            shape = problem.weights.shape
            state.weights = np.array(network["plastic"].w).reshape(shape)
            state.momentum = np.array(network["plastic"].m).reshape(shape)
            state.r = np.array(network["excitatory"].r)
            state.r_inh = float(network["inhibitory"].r[0])
            state.presentations += len(shown.x)
            pairs = zip(monitors, watches, strict=True)
            return [np.array(getattr(monitor, watch.variable)).T for monitor, watch in pairs]


def _circuit(problem: Problem) -> RateCircuit:
    """The problem's response, if it takes time."""
    if isinstance(problem.response, RateCircuit):
        return problem.response
    raise InvalidArgument(
        f'solver "brian2" needs rates that take time (RateCircuit), got {problem.response!r}; '
        'use solver "collapsed" or "euler"'
    )


def _constants(brian2: Any, problem: Problem, shown: Shown) -> dict[str, Any]:
    """What the equations refer to by name."""
    circuit, step = _circuit(problem), STEP * brian2.second
    return {
        "tau": circuit.tau / circuit.dt * step,
        "alpha": circuit.alpha,
        "bias": circuit.bias,
        "lowest": 0.0 if circuit.rectified else -np.inf,
        "momentum": problem.plasticity.step_momentum(circuit),
        "gamma": problem.plasticity.gamma,
        "eta": brian2.TimedArray(shown.etas, step, name="eta"),
        "shown": brian2.TimedArray(shown.x, circuit.steps * step, name="shown"),
    }


def _network(brian2: Any, problem: Problem, state: State, inputs_shown: int) -> Any:
    """The circuit at `state`. All names are given, so that compiled code is found again."""
    step = STEP * brian2.second
    clock = brian2.Clock(step, name="steps")
    presentations = brian2.Clock(problem.response.steps * step, name="presentations")
    neurons, dimension = problem.weights.shape
    options = {"method": "euler", "clock": clock}

    excitatory = brian2.NeuronGroup(neurons, EXCITATORY, name="excitatory", **options)
    inhibitory = brian2.NeuronGroup(1, INHIBITORY, name="inhibitory", **options)
    inputs = brian2.NeuronGroup(inputs_shown, "x : 1", name="inputs", **options)
    inputs.run_regularly("x = shown(t, i)", clock=presentations)

    plastic = brian2.Synapses(inputs, excitatory, PLASTIC, name="plastic", **options)
    inhibition = brian2.Synapses(inhibitory, excitatory, INHIBITION, name="inhibition", **options)
    pooling = brian2.Synapses(excitatory, inhibitory, POOLING, name="pooling", **options)
    # In the order of the weights, from the D inputs that all neurons share or from its own.
    synapse = np.arange(neurons * dimension)
    plastic.connect(i=synapse % inputs_shown, j=synapse // dimension)
    inhibition.connect()
    pooling.connect()
    plastic.run_regularly(LEARNING, clock=clock, when="synapses")

    plastic.w, plastic.m = state.weights.ravel(), state.momentum.ravel()
    plastic.w_init = problem.weights.ravel()
    excitatory.r, inhibitory.r = state.r, state.r_inh
    return brian2.Network(excitatory, inhibitory, inputs, plastic, inhibition, pooling)


@contextmanager
def _quiet_brian2(
    target: Target, directory: str | None
) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Brian2 silent and set up for one run, and what builds it; afterwards all is as before."""
    brian2 = _import_brian2()
    from brian2.devices.cpp_standalone.device import CPPStandaloneDevice
    from brian2.devices.device import reset_device, runtime_device
    from brian2.utils.logger import std_silent

    standalone = target == "cpp_standalone"
    preferences = {
        "codegen.target": "numpy" if standalone else target,
        "core.default_float_dtype": np.float64,
        "core.stop_on_keyboard_interrupt": False,  # it would end a run early and in silence
    }
    with ExitStack() as stack:
        for name, value in preferences.items():
            stack.callback(brian2.prefs.__setitem__, name, brian2.prefs[name])
            brian2.prefs[name] = value
        logger = logging.getLogger("brian2")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        stack.enter_context(warnings.catch_warnings(action="ignore", category=DeprecationWarning))
        stack.enter_context(np.errstate(over="ignore", invalid="ignore"))  # as in the others
        running = brian2.Network._globally_running  # stays True when a run fails
        stack.callback(setattr, brian2.Network, "_globally_running", running)
        if std_silent.dest_stdout is None:  # files that collect what compilers print
            stack.callback(setattr, std_silent, "dest_stdout", None)
            stack.callback(std_silent.close)
        device = CPPStandaloneDevice() if standalone else runtime_device
        brian2.set_device(device, build_on_run=False)
        stack.callback(reset_device)
        folder = directory or stack.enter_context(TemporaryDirectory(prefix="neurosim-"))
        yield brian2, partial(device.build, directory=folder, with_output=False)


def _import_brian2() -> Any:
    """Import Brian2; undo what its import does to hooks, interrupts, warnings and log files."""
    if sys.modules.get("brian2") is not None:
        return sys.modules["brian2"]
    excepthook, install = sys.excepthook, signal.signal
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        showwarning = warnings.showwarning
        # Brian2 would take over Ctrl+C, which moreover fails outside the main thread.
        signal.signal = lambda *_: None
        try:
            import brian2
        except ImportError as error:
            raise InvalidArgument(
                f'solver "brian2" needs the package brian2, which cannot be imported ({error}); '
                'run "pip install brian2" or use solver "euler"'
            ) from error
        finally:
            signal.signal, sys.excepthook = install, excepthook
            if warnings.showwarning is not showwarning:
                logging.captureWarnings(False)
    log: Any = brian2.BrianLogger
    logging.getLogger("py.warnings").removeHandler(log.console_handler)
    if log.file_handler is not None:
        logging.getLogger("brian2").removeHandler(log.file_handler)
        log.file_handler.close()
    for file in (log.tmp_log, log.tmp_script):
        if file is not None:
            Path(file).unlink(missing_ok=True)
    log.file_handler = log.tmp_log = log.tmp_script = None
    return brian2
