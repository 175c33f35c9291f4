"""`neurosim ...`: the command line.

Every command is a function; its docstring and annotations are its help. Functions that need
torch are imported when they are called for. Errors raised on purpose become one line and exit
code 2, Ctrl-C becomes exit code 130.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from inspect import BoundArguments, Signature, signature
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import tyro

from experiments.common.registry import EXPERIMENTS, EXPORTS, Entry, command, load
from experiments.common.result import Report, as_json
from neurosim import __version__, help_text
from neurosim.errors import Interrupted, InvalidArgument, NeurosimError, require_choice
from neurosim.progress import notices
from neurosim.recording import RunReader, describe_lines, describe_values


def inspect(file: Path, json: bool = False) -> str:
    """Print what a run file holds, also while it is being written.

    Args:
        file: The run file (.h5).
        json: Print it as JSON.
    """
    with RunReader(file) as run:
        return as_json(describe_values(run)) if json else "\n".join(describe_lines(run))


class Call(NamedTuple):
    """A command with the values of its options."""

    function: Callable[..., Any]
    values: BoundArguments

    def run(self) -> int:
        """Run it and print what it found, as its options say; the exit code."""
        options = self.values.arguments.get("options")
        quiet = options is not None and getattr(options, "quiet", False)
        with contextlib.nullcontext() if quiet else notices(_explain):
            found = self.function(*self.values.args, **self.values.kwargs)
        if isinstance(found, Report) and options is not None and options.json:
            print(found.as_json())
        elif isinstance(found, Report) and not (options is not None and options.quiet):
            print(found.text())
        elif isinstance(found, str):
            print(found)
        return found.exit_code if isinstance(found, Report) else 0


class Command(NamedTuple):
    """A word of the command line."""

    summary: str
    function: Callable[..., Any] | Entry | Mapping[str, Entry]  # by a second word


COMMANDS = {
    "converge": Command("simulate the circuit over a grid of settings", command("converge")),
    "train": Command("train a network that sleeps", command("train")),
    "reproduce": Command("a published table or figure, beside the paper's numbers", EXPERIMENTS),
    "tune": Command("search rate and decay on a validation split", command("tune")),
    "sweep": Command("a grid of any of these, over cores, machines or Slurm", command("sweep")),
    "analyze": Command("tables and figures of one or many runs", command("analyze")),
    "report": Command("one HTML file about one or many runs", command("report")),
    "score": Command("how brain-like models are, offline", command("score")),
    "export": Command("a trained model for others to use", EXPORTS),
    "demo": Command("the circuit, then networks that sleep, in a minute", command("demo")),
    "inspect": Command("print what a run file holds", inspect),
}


def _overview() -> str:
    """What `neurosim --help` prints."""
    return "\n".join(
        [
            "usage: neurosim COMMAND [options]",
            "",
            "Weight sharing without shared weights: simulate the circuit, train networks that",
            "sleep, reproduce the papers, look into run files.",
            "",
            *_listed({name: command.summary for name, command in COMMANDS.items()}),
            "",
            "neurosim COMMAND --help shows a command's options, neurosim --version the version.",
        ]
    )


def _members(name: str, entries: Mapping[str, Entry]) -> str:
    """What `neurosim reproduce --help` prints."""
    return "\n".join(
        [
            f"usage: neurosim {name} NAME [options]",
            "",
            f"{COMMANDS[name].summary[0].upper()}{COMMANDS[name].summary[1:]}:",
            "",
            *_listed({name: entry.summary for name, entry in entries.items()}),
            "",
            f"neurosim {name} NAME --help shows the options of one.",
        ]
    )


def _listed(summaries: Mapping[str, str]) -> list[str]:
    width = max(map(len, summaries))
    return [f"  {name.ljust(width)}  {summary}" for name, summary in summaries.items()]


def _parse(arguments: Sequence[str]) -> Call | str:
    """The command that was asked for, put together but not run yet; or help."""
    name, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if name in ("", "-h", "--help"):
        return _overview()
    if name == "--version":
        return f"neurosim {__version__}"
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise InvalidArgument(f"the first word must be one of {known}, got {name!r}; see --help")
    function, program = COMMANDS[name].function, f"neurosim {name}"
    if isinstance(function, Mapping):
        chosen, rest = (rest[0], rest[1:]) if rest else ("", [])
        if chosen in ("-h", "--help"):
            return _members(name, function)
        try:
            require_choice(f"the word after {name}", chosen, function)
        except InvalidArgument as error:
            raise InvalidArgument(f"{error}; see {program} --help") from error
        function, program = function[chosen], f"{program} {chosen}"
    return _options(load(function) if isinstance(function, Entry) else function, program, rest)


def _options(function: Callable[..., Any], program: str, rest: Sequence[str]) -> Call:
    """The function with the values of its options; help and mistakes end here."""
    shown = io.StringIO()  # tyro draws a box around a mistake

    def put_together(*args: Any, **kwargs: Any) -> Call:
        return Call(function, signature(function).bind(*args, **kwargs))

    # What a command cannot do without stands by itself, without a name before it.
    hints = get_type_hints(function, include_extras=True)
    parameters = []
    for parameter in signature(function).parameters.values():
        hint = hints[parameter.name]
        if parameter.default is parameter.empty and not is_dataclass(hint):
            hint = tyro.conf.Positional[hint]
        parameters.append(parameter.replace(annotation=hint))
    put_together.__annotations__ = {p.name: p.annotation for p in parameters}
    put_together.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    put_together.__doc__ = function.__doc__
    helped = help_text.Page()
    try:
        with (
            contextlib.redirect_stderr(shown),
            contextlib.redirect_stdout(helped),
            help_text.one_column(),
        ):
            return tyro.cli(
                put_together, prog=program, args=rest, config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as stop:
        if stop.code:
            raise InvalidArgument(help_text.without_box(shown.getvalue())) from stop
        print(help_text.tidy(helped.getvalue()), end="")
        raise


def _explain(wait: str) -> None:
    print(f"neurosim: {wait}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    for stream in (sys.stdout, sys.stderr):  # not all encodings have a minus sign
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        parsed = _parse(sys.argv[1:] if arguments is None else arguments)
        if not isinstance(parsed, str):
            return parsed.run()
        print(parsed)
    except NeurosimError as error:
        message = " ".join(str(error).split())
        print(f"neurosim: error: {message}", file=sys.stderr)
        return 130 if isinstance(error, Interrupted) else 2
    except BrokenPipeError:  # whoever reads our output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 (flushed when Python ends)
        return 0
    except (OSError, MemoryError, OverflowError) as error:
        print(f"neurosim: error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("neurosim: interrupted; what was recorded so far is in the run file", file=sys.stderr)
        return 130
    return 0
