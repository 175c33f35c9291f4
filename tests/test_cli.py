"""The command line: what it prints, what it leaves behind, how it fails and how it is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurosim.cli import main
from neurosim.help_text import tidy
from neurosim.recording import RunReader

SMALL = ["--kernels", "2", "--gammas", "0.1", "--presentations", "40", "--trials", "2", "--quiet"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that has to fail with exit code 2 and one line; that line."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("neurosim: error: ")
    assert error.count("\n") == 1
    return error


def test_demo_says_where_its_results_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    shown = capsys.readouterr()
    assert "demo: 9/9" in shown.err
    found = json.loads(shown.out)
    for place in (found["run_file"], *found["figures"]):
        assert Path(place).stat().st_size > 1000
    accuracy = {row["variant"]: row["top1_mean"] for row in found["variants"]}
    assert accuracy["conv"] > accuracy["ws1"] > accuracy["lc"]
    assert [s["gamma"] for s in found["settings"]] == [0.1, 0.01, 0.001]
    # The ideal rule's minimum is never reached, and a smaller gamma equalises further.
    ends = [s["minus_log_snr"] for s in found["settings"]]
    assert 0 > ends[0] > ends[1] > ends[2] > found["settings"][2]["limits"]["eq5"]


def test_converge_runs_any_grid(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--kernels 2 3 --gammas 0.1 0.01 --alphas 1 10 --neurons 5 50 --rules circuit instant"
    )
    arguments += " --durations 50 100 --presentations 40 --record-every 20 --trials 2 --out here"
    assert main(["converge", *arguments.split(), "--name", "grid", "--quiet", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert len(settings) == 2 * 2 * 2 * 2 * 2 + 2 * 2 * 2 * 2  # durations are no matter to instant
    with RunReader("here/grid.h5") as run:
        assert run.status == "complete"
        assert run["inverse_snr"].shape == (48, 2, 2)
        assert np.isfinite(run["inverse_snr"]).all()
        assert run["presentation"].tolist() == [20, 40]
        assert run.config["alphas"] == [1.0, 10.0]


@pytest.mark.parametrize(
    "arguments",
    [
        "--solvers euler collapsed",
        "--solvers euler --noises 0 0.3",
        "--solvers continuous --momentum 0",
        "--solvers brian2 --presentations 3 --record-every 1",
        "--inputs gaussian rectified laplace onehot-cyclic --correlation 1.5",
        "--inputs rectified laplace exponential onehot-cyclic onehot-random binary sign uniform",
        "--solvers euler --rectified",
        "--schedule constant --rate 1e-5 --dts 1 0.5 --taus 20 30 --initial rest --channels 2",
        "--rules instant --alphas inf 10",
    ],
)
def test_converge_options(arguments: str) -> None:
    if "--correlation" in arguments:
        arguments = arguments.replace("laplace onehot-cyclic ", "")
    code = main(["converge", *SMALL, *arguments.split(), "--out", "x"])
    assert code == 0
    with RunReader("x/converge.h5") as run:
        assert np.isfinite(run["inverse_snr"]).all()


def test_seeds_repeat_and_threads_do_not_matter() -> None:
    for out, more in (("a", []), ("b", ["--threads", "1"]), ("c", ["--seed", "1"])):
        assert main(["converge", *SMALL, "--out", out, *more]) == 0
    curves = []
    for out in "abc":
        with RunReader(f"{out}/converge.h5") as run:
            curves.append(run["inverse_snr"])
    np.testing.assert_array_equal(curves[0], curves[1])
    assert np.abs(curves[0] - curves[2]).max() > 0


def test_nothing_is_overwritten_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["converge", *SMALL, "--out", "x"]) == 0
    before = {path: path.read_bytes() for path in Path("x").iterdir()}
    assert len(before) == 3
    error = fails(capsys, "converge", *SMALL, "--out", "x")
    assert "exists already" in error
    assert "--overwrite" in error
    assert {path: path.read_bytes() for path in Path("x").iterdir()} == before
    assert main(["converge", *SMALL, "--out", "x", "--seed", "1", "--overwrite"]) == 0
    with RunReader("x/converge.h5") as run:
        assert run.seed == 1
    Path("x/converge.h5").unlink()  # figures alone are results too
    assert "exists already" in fails(capsys, "converge", *SMALL, "--out", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--alphas 10 100", r"--dts must be < 2 tau / (1 + alpha) = 0.5941"),
        ("--alphas 10 100", r"[alpha = 100.0]"),
        ("--kernels 24", "--rate must be at most"),
        ("--noises 0.1", 'use solver "euler" or "brian2"'),
        ("--solvers continuous", "momentum = 0"),
        ("--neurons 1", "neurons must be a whole number >= 2, got 1"),
        ("--gammas 0", "--gammas must be finite and > 0, got 0"),
        ("--taus -1", "--taus must be > 0 ms, got -1"),
        ("--dts 0.7", "dt must be a divisor of the presentation's 150 ms, got 0.7"),
        ("--trials 0", "--trials must be >= 1, got 0"),
        ("--record-every 50", "--record-every must be from 1 to --presentations = 40, got 50"),
        ("--gammas 0.1 0.1", "--gammas must be without repetitions"),
        ("--inputs laplace --correlation 2", "--correlation must be left out"),
        ("--correlation 0", "--correlation must be finite and > 0, got 0"),
        ("--seed -1", "--seed must be >= 0 and below 2^63, got -1"),
        ("--name ..", "--name must be a file name without folders, got '..'"),
        ("--name a/b", "--name must be a file name without folders, got 'a/b'"),
        ("--out /dev/null/x", "--out must be a folder that can be written to, got '/dev/null/x'"),
    ],
)
def test_bad_settings_fail_before_anything_runs(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(capsys, "converge", *SMALL, *arguments.split())
    assert not list(Path().iterdir())


def test_folders_are_numbered_and_none_stays_empty() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for words, code in (("--kernels 24", 2), ("", 0), ("--kernels 24", 2), ("", 0)):
        command = [sys.executable, "-m", "neurosim", "converge", *SMALL, *words.split()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert sorted(p.name for p in Path("runs").iterdir()) == ["converge", "converge-2"]
    assert Path("runs/converge-2/converge.h5").exists()


def test_convergence_studies_do_not_wait_for_torch() -> None:
    """To import it takes longer than a small study."""
    script = (
        "import sys; from neurosim.cli import main\n"
        f"assert main({['converge', *SMALL]}) == 0\n"
        "assert main(['inspect', 'runs/converge/converge.h5']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_names_with_dots_do_not_collide() -> None:
    for name in ("x.1", "x.2"):
        assert main(["converge", *SMALL, "--out", "d", "--name", name]) == 0
    assert len(list(Path("d").iterdir())) == 6


def test_unknown_words_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["reproduce", "fig9z"], ["'fig9z'", "fig4a", "neurosim reproduce --help"]),
        (["reproduce"], ["''", "table1", "neurosim reproduce --help"]),
        (["converge", "--solvers", "eulr"], ["'eulr'", "--solvers", "'euler'"]),
        (["converge", "--gama", "1"], ["--gama", "--gammas"]),
        (["converge", "--gammas", "x"], ["--gammas", "['x']"]),
        (["converg"], ["'converg'", "converge, train, reproduce"]),
        (["inspect"], ["PATH"]),
    ):
        error = fails(capsys, *arguments)
        assert not [word for word in words if word not in error]
        assert "─" not in error


def succeeds(arguments: list[str]) -> bool:
    """Whether the command ends well; tyro's help ends the process."""
    try:
        return main(arguments) == 0
    except SystemExit as stop:
        return stop.code == 0


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ([], ["converge", "train", "--help"]),
        (["--version"], ["neurosim 0."]),
        (["--help"], ["converge", "train", "reproduce", "demo", "inspect"]),
        (["converge", "--help"], ["--gammas", "default: 0.1 0.01", "Example", "--overwrite"]),
        (["reproduce", "--help"], ["theorem1", "integrators", "Eq. 4", "table1"]),
        (["reproduce", "fig4a", "--help"], ["--seed", "--out"]),
        (["reproduce", "table1", "--help"], ["--padding", "--epochs", "--seeds", "--variants"]),
        (["train", "--help"], ["--sleep", "--alpha", "--record-every", "torchrun", "--resume"]),
        (["tune", "--help"], ["--lrs", "--weight-decays"]),
    ):
        assert succeeds(arguments)
        text = " ".join(capsys.readouterr().out.split())
        assert not [word for word in words if word not in text]
        assert "None)" not in text  # the default of what says itself what it is by default
        assert "(default: )" not in text
        assert "options options" not in text


def test_help_has_its_box_in_colours_too() -> None:
    plain = (
        "│ --data {None}|PATH   Folder (default: $NEUROSIM_DATA). (default:       │\n"
        "│                      None)                                             │\n"
        "│ --fold INT           Number. (default: 0)                              │\n"
        "│ --names [STR ...]    Names. (default: )                                │\n"
    )
    wanted = (
        "│ --data {None}|PATH   Folder (default: $NEUROSIM_DATA).                 │\n"
        "│ --fold INT           Number. (default: 0)                              │\n"
        "│ --names [STR ...]    Names.                                            │\n"
    )
    ascii_only = plain.replace("│", "|")  # as where the terminal has no more
    assert tidy(ascii_only) == wanted.replace("│", "|")
    cyan, end = "\x1b[36m", "\x1b[0m"
    words = (f"{cyan}{part}{end}" for part in re.split(r"(?<= )(?=\S)", plain))
    colourful = tidy("".join(words))
    assert tidy(plain) == wanted
    assert re.sub(r"\x1b\[\d*m", "", colourful) == wanted


def test_inspect(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["converge", *SMALL, "--out", "x"]) == 0
    capsys.readouterr()
    assert main(["inspect", "x/converge.h5"]) == 0
    text = capsys.readouterr().out
    for word in ("status: complete", "inverse_snr", "setting 1, trial 2, presentation 4", "100%"):
        assert word in text
    assert main(["inspect", "x/converge.h5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["config"]["kernels"]) == ("complete", [2])
    (curves,) = [d for d in found["datasets"] if d["name"] == "inverse_snr"]
    assert (curves["shape"], curves["filled"]) == ([1, 2, 4], 1.0)


def test_inspect_refuses_other_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["converge", *SMALL, "--out", "x"]) == 0
    whole = Path("x/converge.h5").read_bytes()
    Path("short.h5").write_bytes(whole[: len(whole) // 2])
    Path("text.h5").write_text("no HDF5\n")
    with h5py.File("other.h5", "w") as file:
        file["x"] = 1
    for name in ("short.h5", "text.h5", "other.h5", "missing.h5"):
        assert name in fails(capsys, "inspect", name)


def start_long_run() -> subprocess.Popen[str]:
    """A study of a minute in a process of its own, once its file has its first results."""
    arguments = (
        "converge --kernels 9 --solvers euler --trials 40 --presentations 300 --out x --threads 1"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "neurosim", *arguments.split()],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if Path("x/converge.h5").exists():
            with RunReader("x/converge.h5") as run:
                if np.isfinite(run["inverse_snr"]).any():
                    assert run.status == "running"
                    return process
        time.sleep(0.1)
    raise AssertionError(f"the run wrote nothing: {process.communicate()[1]}")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_is_readable_and_says_so(
    stop: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start_long_run()
    process.send_signal(stop)
    error = process.communicate(timeout=60)[1]
    with RunReader("x/converge.h5") as run:
        recorded = np.isfinite(run["inverse_snr"])
        assert run.status == ("interrupted" if stop == signal.SIGINT else "killed")
    assert recorded.any()
    assert not recorded.all()
    rows = recorded.reshape(-1, recorded.shape[-1])
    assert (rows.all(1) == rows.any(1)).all()  # whole populations or nothing
    assert main(["inspect", "x/converge.h5"]) == 0
    assert ("interrupted" if stop == signal.SIGINT else "killed") in capsys.readouterr().out
    assert not list(Path("x").glob("*.png"))
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted" in error
        assert "Traceback" not in error
