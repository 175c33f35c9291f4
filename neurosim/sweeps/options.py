"""The options of any function: its parameters, and the fields of those that are dataclasses.

`neurosim ...` shows them as `--name`; a sweep varies them by the same names. Values are kept as
JSON has them: a tuple of one is its only value, a path is text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from neurosim.errors import InvalidArgument, require_choice

Config = dict[str, Any]
"""Values of options by name, as JSON has them."""

REQUIRED = Parameter.empty
"""In place of a default: there is none."""

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Option:
    """One option: what it may be, and what it is where nothing is said."""

    name: str
    hint: Any
    default: Any = REQUIRED

    @property
    def many(self) -> bool:
        """Whether it takes several values, of which a point of a grid has one."""
        return any(get_origin(kind) is tuple for kind in _kinds(self.hint))

    def read(self, value: Any) -> Any:
        """A value given as text or as itself, as JSON has it; refused where it is no such value."""
        if self.many and isinstance(value, tuple | list):
            read = [_read(self.name, _element(self.hint), item) for item in value]
            return read[0] if len(read) == 1 else read
        return _read(self.name, _element(self.hint), value)

    def make(self, value: Any) -> Any:
        """What the function gets for a value that JSON has."""
        if self.many and value is not None:
            return tuple(value) if isinstance(value, list) else (value,)
        return Path(value) if isinstance(value, str) and Path in _kinds(self.hint) else value


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """All options of a function by name."""
    hints = _hints(function)
    found: dict[str, Option] = {}
    for parameter in signature(function).parameters.values():
        if parameter.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL):
            continue
        hint = hints.get(parameter.name, Any)
        if is_dataclass(hint):
            found |= _fields(_group(parameter, hint))
        else:
            default = REQUIRED if parameter.default is parameter.empty else parameter.default
            found[parameter.name] = Option(parameter.name, hint, default)
    return found


def arguments(function: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What to call the function with: its defaults, but for what the configuration says."""
    hints = _hints(function)
    given: dict[str, Any] = {}
    for name, parameter in signature(function).parameters.items():
        hint = hints.get(name, Any)
        if is_dataclass(hint):
            given[name] = _configured(_group(parameter, hint), config)
        elif name in config:
            given[name] = Option(name, hint).make(config[name])
    return given


def defaults(options: Mapping[str, Option]) -> Config:
    """The default of every option that has one, as JSON has it."""
    found = {}
    for name, option in options.items():
        if option.default is REQUIRED:
            continue
        found[name] = _plain(option.default)
        try:
            json.dumps(found[name])
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"the default of {name} must be numbers, text or lists of them, with which a study "
                f"can be written down, got {option.default!r}"
            ) from error
    return found


def find_option(name: str, options: Mapping[str, Option], what: str = "--grid key") -> Option:
    """The option called so, or so in the singular; suggest the nearest where there is none."""
    plain = name.strip().replace("-", "_")
    if plain not in options and (several := options.get(f"{plain}s")) and several.many:
        return several
    require_choice(what, plain, options)
    return options[plain]


@cache
def _hints(thing: Any) -> dict[str, Any]:
    """Types of parameters or fields; to evaluate them takes longer than a small run may."""
    return get_type_hints(thing)


def _group(parameter: Parameter, hint: Any) -> Any:
    """The default value of a parameter that is a dataclass."""
    return hint() if parameter.default is parameter.empty else parameter.default


def _fields(group: Any) -> dict[str, Option]:
    hints, found = _hints(type(group)), {}
    for field in fields(group):
        value = getattr(group, field.name)
        if is_dataclass(value):
            found |= _fields(value)
        else:
            found[field.name] = Option(field.name, hints[field.name], value)
    return found


def _configured(group: Any, config: Mapping[str, Any]) -> Any:
    """A dataclass with the values that the configuration has for it and the groups within."""
    hints, changes = _hints(type(group)), {}
    for field in fields(group):
        value = getattr(group, field.name)
        if is_dataclass(value):
            changes[field.name] = _configured(value, config)
        elif field.name in config:
            changes[field.name] = Option(field.name, hints[field.name]).make(config[field.name])
    return replace(group, **changes)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows; nothing first, which would else be read as text."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(sorted(kinds, key=lambda kind: kind is not NoneType))


def _element(hint: Any) -> tuple[Any, ...]:
    """The types of one value of an option, those within tuples included."""
    found: list[Any] = []
    for kind in _kinds(hint):
        inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
        found += _kinds(inner)
    return tuple(found)


def _read(name: str, kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _as(kind, value)
        except (ValueError, TypeError):
            continue
    words = " or ".join(dict.fromkeys(map(_word, kinds)))
    choices = [str(choice) for kind in kinds for choice in get_args(kind)]
    if choices and isinstance(value, str):
        require_choice(f"--grid {name}", value, choices)
    raise InvalidArgument(f"--grid {name} must be {words}, got {value!r}")


def _as(kind: Any, value: Any) -> Any:
    """The value as this type; ValueError or TypeError where it is none."""
    text = isinstance(value, str)
    if kind is Any:
        return _guess(value) if text else _plain(value)
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}[_choice(value, kind)]
    if kind is NoneType:
        if value is None or (text and value.lower() == "none"):
            return None
        raise ValueError(value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        if text and value.lower() in BOOLEANS:
            return BOOLEANS[value.lower()]
        raise ValueError(value)
    if kind in (int, float):
        if isinstance(value, bool) or (kind is int and not text and int(value) != value):
            raise ValueError(value)
        return kind(value)
    if kind in (str, Path) and isinstance(value, str | Path):
        return str(value)
    raise TypeError(kind)


def _choice(value: Any, kind: Any) -> str:
    if str(value) not in map(str, get_args(kind)):
        raise ValueError(value)
    return str(value)


def _guess(text: str) -> Any:
    """A number, a truth, nothing or text: for functions that do not say."""
    for kind in (int, float, bool, NoneType):
        try:
            return _as(kind, text)
        except ValueError:
            continue
    return text


def _plain(value: Any) -> Any:
    """A value as JSON has it, with tuples of one as what is in them."""
    if isinstance(value, tuple | list):
        return _plain(value[0]) if len(value) == 1 else [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if hasattr(value, "item") else value


def _word(kind: Any) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text",
             Path: "a path", NoneType: "none"}  # fmt: skip
    return words.get(kind, "one of " + ", ".join(map(str, get_args(kind))))
