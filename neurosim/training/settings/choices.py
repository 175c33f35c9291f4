"""Values that have to be among a few."""

from __future__ import annotations

from typing import Literal, get_args, get_origin, get_type_hints

from neurosim.errors import require_choice


def check_choices(settings: object) -> None:
    """Refuse values that are not among the choices of their field."""
    for name, hint in get_type_hints(type(settings)).items():
        kinds, value = (hint, *get_args(hint)), getattr(settings, name)
        choices = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
        if choices and not (value is None and type(None) in kinds):
            require_choice(f"--{name.replace('_', '-')}", value, choices)
