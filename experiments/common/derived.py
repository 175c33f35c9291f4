"""What is computed of a trained network and kept beside its run, so that the network may go."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neurosim.errors import InvalidArgument
from neurosim.files import write_json
from neurosim.recording import RunReader
from neurosim.training import Place

Values = dict[str, Any]


def derived(run_file: Path, name: str, compute: Callable[[], Values], **settings: object) -> Values:
    """What `compute` finds out about a run's last checkpoint, as JSON has it: from RUN.NAME.json.

    It is computed once. An experiment that goes on reads it, also after the checkpoint was
    removed. `settings` are what it depends on besides the run.
    """
    path = run_file.with_suffix(f".{name}.json")
    with RunReader(run_file) as run:
        of = {"run": run.attributes["run_id"], **settings}
    if not _is_of(path, of):
        if not Place(run_file).checkpoints.paths():
            raise InvalidArgument(
                f"{run_file}: has no checkpoint any more, of which its {name} would be computed: "
                "train it again, with another --out or --overwrite"
            )
        write_json(path, {"of": of, "values": compute()})
    return json.loads(path.read_text(encoding="utf-8"))["values"]


def _is_of(path: Path, of: Mapping[str, object]) -> bool:
    """Whether a file is there and about this run and these settings."""
    if not path.exists():
        return False
    return json.loads(path.read_text(encoding="utf-8"))["of"] == json.loads(json.dumps(of))
