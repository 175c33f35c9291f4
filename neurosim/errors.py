"""What goes wrong, said in one sentence: the argument, its value, what is allowed.

Every error that neurosim raises on purpose is a `NeurosimError`; the command line prints its
message on one line and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args


class NeurosimError(Exception):
    """Base of all errors raised on purpose."""


class InvalidArgument(NeurosimError, ValueError):
    """An argument has a value that is not allowed."""


class StabilityError(InvalidArgument):
    """A step, an inhibition or a learning rate lies beyond a stability bound."""


class Diverged(NeurosimError, ArithmeticError):
    """A simulation produced NaN or Inf."""


class Stopped(NeurosimError):
    """A simulation was told to stop before its end."""


class Interrupted(NeurosimError):
    """Something was told to stop, has saved what it had, and can be resumed."""


class RunFileError(NeurosimError):
    """A run file is missing, damaged, of another schema version or used against its rules."""


def require(condition: object, name: str, value: object, allowed: str) -> None:
    """Raise `InvalidArgument` unless `condition`: '<name> must be <allowed>, got <value>'."""
    if not condition:
        raise InvalidArgument(f"{name} must be {allowed}, got {_shown(value)}")


def _shown(value: object) -> str:
    """A value as one sentence can show it: an array would fill the screen."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    text = repr(value)
    return text if len(text) <= 200 and "\n" not in text else _with_article(type(value).__name__)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def require_number(name: str, value: object) -> None:
    """A number is an int, a float or one of numpy's, but not True or False."""
    require(isinstance(value, Real) and not isinstance(value, bool), name, value, "a number")


def require_count(name: str, value: object, least: int = 1, *, optional: bool = False) -> None:
    """A count is an int of Python or numpy, at least `least`; None, too, where `optional`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
    allowed = f"a whole number >= {least}" + (" or None" if optional else "")
    require(whole or (optional and value is None), name, value, allowed)


def require_instance(name: str, value: object, kind: Any) -> None:
    """Raise `InvalidArgument` unless `value` is a `kind`: a class, or a union of classes."""
    kinds = get_args(kind) or [kind]
    names = ("None" if one is NoneType else _with_article(one.__name__) for one in kinds)
    require(isinstance(value, kind), name, value, " or ".join(names))


def option(name: str) -> str:
    """What the command line calls a field of settings."""
    return f"--{name.replace('_', '-')}"


@contextmanager
def renaming(**names: str) -> Iterator[None]:
    """Within, errors about arguments of these names speak of the options that they came from."""
    try:
        yield
    except InvalidArgument as error:
        name, _, rest = str(error).partition(" ")
        if name not in names:
            raise
        raise type(error)(f"{names[name]} {rest}") from error


def require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise `InvalidArgument` unless `value` is one of `choices`; suggest the nearest."""
    known = list(choices)
    if value in known:
        return
    near = get_close_matches(str(value), known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InvalidArgument(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")
