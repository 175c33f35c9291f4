"""What tells one network from another, so that activations are not taken for another's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType
from typing import Any

import torch
from torch import nn

PLAIN = (bool, int, float, str, tuple, list, type(None))
"""Kinds of attributes that say how a module computes, as far as they can be written down."""


def weights_fingerprint(model: nn.Module) -> str:
    """Short text that differs between networks with different weights."""
    found = hashlib.sha256()
    for name, value in {**model.state_dict(), **dict(model.named_buffers())}.items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def structure_fingerprint(model: nn.Module) -> str:
    """Short text that differs between networks that compute differently from the same weights.

    Of every module its class, plain attributes and hooks, and of classes that are not torch's own
    the compiled code: in a notebook a changed `forward` keeps its name.
    """
    texts = [text for name, module in model.named_modules() for text in (name, *_module(module))]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _module(module: nn.Module) -> Iterator[str]:
    kind = type(module)
    yield f"{kind.__module__}.{kind.__qualname__}"
    yield module.extra_repr()
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or name == "training":
            continue
        if isinstance(value, PLAIN):
            yield f"{name} = {value!r}"
        elif callable(value) and not isinstance(value, nn.Module):
            yield f"{name} = {_function(value)}"
    for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        if not base.__module__.startswith("torch."):
            yield from (_function(held) for _, held in sorted(vars(base).items()) if callable(held))
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        yield from (f"hook {_function(hook)}" for hook in hooks.values())


def _function(function: Callable[..., Any]) -> str:
    """The name of a function and what it was compiled to, where it is written in Python."""
    if isinstance(function, partial):
        given = (*function.args, *function.keywords.items())
        shown = [repr(value) for value in given if isinstance(value, PLAIN)]
        return f"{_function(function.func)} {shown}"
    kind = function if hasattr(function, "__qualname__") else type(function)
    code = getattr(function, "__code__", None)
    if code is None and kind is not function:  # an object that can be called
        code = getattr(kind.__call__, "__code__", None)
    return f"{kind.__module__}.{kind.__qualname__} {_code(code) if code else ''}"


def _code(code: CodeType) -> str:
    """The same in every process: sets have no order of their own."""
    constants = [
        _code(value) if isinstance(value, CodeType)
        else repr(sorted(map(repr, value))) if isinstance(value, frozenset)
        else repr(value)
        for value in code.co_consts
    ]  # fmt: skip
    return f"{code.co_code.hex()} {code.co_names} {constants}"
