"""Arguments as people give them: a lone name, a tensor, the wrong kind of run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from neurosim.errors import RunFileError, require_instance
from neurosim.recording import RunReader


def as_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Several names; a lone one counts as one, not as its letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def as_array(values: Any) -> np.ndarray:
    """As numpy; of a tensor its values, wherever they are and whatever graph they belong to."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # which numpy has not
            values = values.float()
    return np.asarray(values)


def check_run(run: RunReader, kind: str) -> None:
    """Refuse what is no open run, or one of another kind."""
    require_instance("run", run, RunReader)
    if run.kind != kind:
        raise RunFileError(f"{run.path}: must be of kind {kind!r}, got {run.kind!r}")
