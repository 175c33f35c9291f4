"""What fields of settings may hold."""

from __future__ import annotations

from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from neurosim.errors import InvalidArgument, option, require, require_choice

KINDS: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
    Path: (str | Path, "a path"),
}


def check_values(settings: Any) -> None:
    """Refuse values that are not of their field's kind, or not among its choices."""
    for name, hint in get_type_hints(type(settings)).items():
        _check_value(option(name), getattr(settings, name), hint)


def _check_value(name: str, value: Any, hint: Any) -> None:
    kinds = [kind for kind in (hint, *get_args(hint)) if kind in KINDS]
    if value is None and type(None) in get_args(hint):
        return
    literals = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal]
    if literals:
        require_choice(name, value, get_args(literals[0]))
    elif get_origin(hint) is tuple:
        listed = isinstance(value, tuple | list)
        require(listed, name, value, "a tuple")  # a lone text would be taken letter by letter
        items: Any = value
        for item in items:
            _check_value(name, item, get_args(hint)[0])
    elif kinds:
        kind, words = KINDS[kinds[0]]
        fits = isinstance(value, kind) and (kinds[0] is bool or not isinstance(value, bool))
        require(fits, name, value, words)


def refuse_changed(settings: Any, names: tuple[str, ...], reason: str) -> None:
    """Refuse fields of these names that are not as they are by default: "--name <reason>"."""
    for field in fields(settings):
        if field.name in names and getattr(settings, field.name) != field.default:
            raise InvalidArgument(f"{option(field.name)} {reason}")
