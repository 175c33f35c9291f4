"""Brian2 against the reference, and against what it might leave behind in a process."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosim.dynamics.brian import Brian2
from neurosim.dynamics.circuit import InstantResponse, Plasticity, RateCircuit
from neurosim.dynamics.euler import Euler
from neurosim.dynamics.inputs import Gaussian
from neurosim.dynamics.problem import Problem, Recorder, State
from neurosim.dynamics.rates import InverseTime
from neurosim.errors import InvalidArgument

SHORT = RateCircuit(steps=20)
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("make") is None, reason="needs g++ and make"
)


def make_problem(
    response: Any = SHORT,
    neurons: int = 8,
    dimension: int = 5,
    presentations: int = 3,
    plasticity: Plasticity | None = None,
    **options: Any,
) -> Problem:
    """Weights and inputs as published, with a rate that moves the weights at once."""
    weights = np.random.default_rng(0).normal(1, 1, (neurons, dimension))
    inputs = Gaussian(dimension, presentations, seed=1)
    return Problem(weights, inputs, response, plasticity or Plasticity(2e-3), **options)


def assert_same(one: Any, other: Any) -> None:
    """Equal to rounding, on the scale of the largest element."""
    scale = np.max(np.abs(other), initial=1.0)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * scale)


def assert_same_state(one: State, other: State) -> None:
    assert one.presentations == other.presentations
    for name in ("weights", "momentum", "r", "r_inh"):
        assert_same(getattr(one, name), getattr(other, name))
        assert np.shape(getattr(one, name)) == np.shape(getattr(other, name))


def advance(
    solver: Any, problem: Problem, *stops: int, every: int | None = None
) -> tuple[State, Recorder]:
    """Run to each of the stops in turn."""
    state, recorder = problem.start(), Recorder(every)
    for stop in stops:
        solver.run(problem, state, stop, recorder)
    return state, recorder


def assert_same_run(solver: Any, problem: Problem, *stops: int, every: int | None = None) -> None:
    """`solver`, stopping on the way, against one uninterrupted run of the reference."""
    reference, expected = advance(Euler(), problem, problem.presentations, every=every)
    state, recorder = advance(solver, problem, *stops, problem.presentations, every=every)
    assert_same_state(state, reference)
    assert np.abs(state.weights - problem.weights).max() > 1e-4  # there was something to compare
    assert recorder.presentations == expected.presentations
    for part, whole in zip(recorder.stacked(5), expected.stacked(5), strict=True):
        assert_same(part, whole)


@pytest.mark.parametrize(
    "options",
    [
        {"response": RateCircuit(), "plasticity": Plasticity()},
        {"response": RateCircuit(steps=40, dt=0.5), "final_steps": 7},
        {"response": RateCircuit(steps=150, dt=0.1), "initial": "rest"},
        {"response": RateCircuit(steps=33, dt=1 / 3, tau=7.0), "plasticity": Plasticity(3e-3)},
        {"response": RateCircuit(steps=20, alpha=0.0, bias=-0.5)},
        {"response": RateCircuit(steps=40, rectified=True), "initial": "rest"},
        {"noise": 0.4, "final_steps": 1},
        {"noise": 0.4, "response": RateCircuit(steps=30, dt=0.1, rectified=True)},
        {"plasticity": Plasticity(InverseTime(2.0), gamma=0.3, momentum=0.0)},
        {"response": RateCircuit(steps=1)},
        {"neurons": 1, "dimension": 1},
    ],
    ids=lambda options: ",".join(options),
)
def test_every_step_equals_euler(options: dict[str, Any]) -> None:
    problem = make_problem(**options)
    state, reference = problem.start(), problem.start()
    for _ in range(problem.presentations):
        trace, expected = Brian2().trace(problem, state), Euler().trace(problem, reference)
        np.testing.assert_array_equal(trace.time, expected.time)
        assert trace.r.shape == expected.r.shape
        assert trace.r_inh.shape == expected.r_inh.shape
        assert_same(trace.r, expected.r)
        assert_same(trace.r_inh, expected.r_inh)
        assert_same_state(state, reference)


@pytest.mark.parametrize(("every", "stops"), [(None, (2,)), (1, ()), (3, (1, 4)), (4, (6, 6))])
def test_continuing_and_recording_equal_one_run(every: int | None, stops: tuple[int, ...]) -> None:
    problem = make_problem(presentations=9, noise=0.1, final_steps=11)
    assert_same_run(Brian2(), problem, *stops, every=every)


def test_run_of_several_chunks() -> None:
    problem = make_problem(RateCircuit(steps=3, dt=0.1), presentations=530)
    assert_same_run(Brian2(), problem, 10, every=100)


def test_inputs_that_do_not_fit_one_part() -> None:
    """2^19 weights: a part is two presentations."""
    problem = make_problem(RateCircuit(steps=2), 1024, 512, 3, Plasticity(1e-5), noise=0.1)
    state, _ = advance(Brian2(), problem, 3)
    reference, _ = advance(Euler(), problem, 3)
    assert_same_state(state, reference)


@needs_compiler
def test_standalone_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    response = RateCircuit(steps=12, dt=0.7, rectified=True)
    problem = make_problem(response, presentations=300, noise=0.1, final_steps=5)
    before = process()
    assert_same_run(Brian2("cpp_standalone"), problem, every=7)
    assert process() == before
    assert not list(tmp_path.iterdir())


@needs_compiler
@pytest.mark.slow
def test_standalone_trace_and_kept_program(tmp_path: Path) -> None:
    problem = make_problem()
    state, reference = problem.start(), problem.start()
    solver = Brian2("cpp_standalone", str(tmp_path / "program"))
    for _ in range(2):
        assert_same(solver.trace(problem, state).r, Euler().trace(problem, reference).r)
    assert_same_state(state, reference)
    assert (tmp_path / "program" / "main.cpp").exists()


@needs_compiler
@pytest.mark.slow
def test_cython() -> None:
    problem = make_problem(presentations=5, noise=0.1, final_steps=5)
    before = process()
    assert_same_run(Brian2("cython"), problem, 2, every=2)
    assert process() == before


def process() -> dict[str, Any]:
    """What a simulation must not change."""
    import brian2
    from brian2.devices.device import get_device, previous_devices

    loggers = [logging.getLogger(name) for name in (None, "brian2", "py.warnings")]
    device: Any = get_device()
    return {
        "device": (device, device.build_on_run, list(previous_devices)),
        "clock": float(brian2.defaultclock.dt),
        "preferences": dict(brian2.prefs),
        "running": brian2.Network._globally_running,
        "loggers": [(logger.level, list(logger.handlers)) for logger in loggers],
        "hooks": (sys.excepthook, warnings.showwarning, signal.getsignal(signal.SIGINT)),
        "filters": list(warnings.filters),
        "numpy": (np.geterr(), np.get_printoptions(), repr(np.random.get_state())),  # noqa: NPY002
        "folder": Path.cwd(),
    }


def fail_at_step(number: int) -> Callable[..., Any]:
    """In place of what Brian2 calls between two steps."""
    from brian2 import Network

    steps = iter(range(number))
    original = Network._nextclocks

    def next_clocks(network: Any) -> Any:
        if next(steps, None) is None:
            raise RuntimeError("failed on purpose")
        return original(network)

    return next_clocks


@pytest.mark.parametrize("target", ["numpy", "cpp_standalone"])
def test_nothing_leaks_when_a_run_fails(
    target: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    problem, solver = make_problem(), Brian2(target)
    solver.check(problem)
    before, state = process(), problem.start()
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        patch.setattr("brian2.Network._nextclocks", fail_at_step(7))  # in this process
        patch.setenv("PATH", "")  # a program cannot be compiled
        with pytest.raises(RuntimeError, match="failed"):
            solver.run(problem, state, 3, Recorder(None))
    assert process() == before
    assert not list(tmp_path.iterdir())
    assert_same_state(state, problem.start())
    assert_same_run(Brian2(), problem)


def test_a_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    Brian2().check(make_problem())
    import brian2
    from brian2.devices.device import reset_device

    monkeypatch.setitem(brian2.prefs, "codegen.target", "cython")
    monkeypatch.setitem(brian2.prefs, "core.default_float_dtype", np.float32)
    brian2.set_device("cpp_standalone", build_on_run=False)
    try:
        before = process()
        assert_same_run(Brian2(), make_problem())
        assert process() == before
    finally:
        brian2.device.reinit()
        reset_device()


def test_a_fresh_process_stays_as_it_was(tmp_path: Path) -> None:
    """Brian2's import replaces hooks and leaves log files; that is all undone, in silence."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import logging, signal, sys, tempfile, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from neurosim.dynamics.brian import Brian2
from neurosim.dynamics.circuit import Plasticity, RateCircuit
from neurosim.dynamics.inputs import Given
from neurosim.dynamics.problem import Problem, Recorder

def process():
    return (
        sys.excepthook, warnings.showwarning, list(warnings.filters), logging._warnings_showwarning,
        signal.signal, signal.getsignal(signal.SIGINT), logging.getLogger("py.warnings").handlers,
        logging.getLogger().handlers, logging.getLogger().level, np.geterr(),
        np.get_printoptions(),
        list(Path(tempfile.gettempdir()).iterdir()),
    )

before = process()
assert "brian2" not in sys.modules
problem = Problem(np.ones((2, 2)), Given.of(np.eye(2)), RateCircuit(steps=3), Plasticity())
with ThreadPoolExecutor(1) as pool:  # as in an ensemble
    pool.submit(Brian2().check, problem).result()
assert "brian2" in sys.modules
assert process() == before
state = problem.start()
Brian2().run(problem, state, 2, Recorder(1))
assert state.presentations == 2
assert process() == before
"""
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(temporary.iterdir())


def test_a_diverging_run_is_silent(recwarn: pytest.WarningsRecorder, capfd: Any) -> None:
    problem = make_problem(plasticity=Plasticity(1e3), presentations=30)
    state, _ = advance(Brian2(), problem, 30)
    assert not np.isfinite(state.weights).all()
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_without_brian2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brian2", None)
    problem = make_problem()
    with pytest.raises(InvalidArgument, match=r'pip install brian2" or use solver "euler"$'):
        Brian2().check(problem)
    with pytest.raises(InvalidArgument, match="brian2"):
        Brian2().run(problem, problem.start(), 1, Recorder(None))


def test_refusals() -> None:
    with pytest.raises(InvalidArgument, match=r'use solver "collapsed" or "euler"$'):
        Brian2().check(make_problem(InstantResponse()))
    with pytest.raises(InvalidArgument, match="did you mean 'cython'"):
        Brian2("cyton")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgument, match="directory must be None unless"):
        Brian2("numpy", "folder")
