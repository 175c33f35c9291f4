"""What the layers of a network do: activations over any stimuli, in a run file.

A file of kind "activations" grows by one stimulus at a time, so that memory holds a batch and a
killed extraction goes on where it was. Every layer is a group: `layers/NAME/activation` has the
axes (stimulus, channel, row, column), or (stimulus, feature) where there is no map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from analysis.arguments import as_names
from analysis.representations.fingerprints import structure_fingerprint, weights_fingerprint
from analysis.representations.stimuli import Stimuli, View
from neurosim.errors import InvalidArgument, RunFileError, require, require_choice, require_instance
from neurosim.recording import RunReader, RunWriter

AXES = {3: ("channel", "row", "column"), 1: ("feature",)}


@dataclass(frozen=True)
class Extraction:
    """How activations are recorded."""

    dtype: Literal["float32", "float16"] = "float32"
    """Numbers in the file; layers always compute in single precision."""
    pool: int | None = None
    """Average maps larger than this down to so many rows and columns."""
    batch: int = 64
    """Stimuli at once."""

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, ("float32", "float16"))
        require(self.pool is None or self.pool >= 1, "pool", self.pool, ">= 1")
        require(self.batch >= 1, "batch", self.batch, ">= 1")


def layer_names(model: nn.Module) -> list[str]:
    """Names that can be extracted: all submodules, outer ones before those within them."""
    return [name for name, _ in model.named_modules() if name]


def block_names(model: nn.Module) -> list[str]:
    """Outputs worth comparing: the children, of sequences theirs, without the classifier's."""
    names = []
    for name, child in model.named_children():
        inner = [part for part, _ in child.named_children()]
        sequence = isinstance(child, nn.Sequential) and inner
        names += [f"{name}.{part}" for part in inner] if sequence else [name]
    return names[:-1] or names


def check_layers(layers: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names that are not known or repeated; suggest the nearest."""
    require(layers, "layers", list(layers), "one or more")
    require(len(set(layers)) == len(layers), "layers", list(layers), "without repetitions")
    for name in layers:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0)
            raise InvalidArgument(
                f"layer must be one of the {len(known)} that there are, got {name!r}; "
                f"the nearest is {near[0]!r}"
            )


def extract(
    model: nn.Module,
    stimuli: Stimuli,
    layers: str | Sequence[str],
    path: str | Path,
    *,
    view: View | None = None,
    degrees: float | None = None,
    settings: Extraction | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Record the outputs of layers for all stimuli, in evaluation mode and single precision.

    Args:
        model: any network that takes one tensor.
        stimuli: what it is shown.
        layers: names as in `model.named_modules()`.
        path: the file.
        view: how images become the network's input.
        degrees: width at which the stimuli were shown, for a view that has a field of its own.
        settings: numbers, pooling and batches.
        device: where the network computes.
        resume: go on in a file that an earlier call with the same arguments left unfinished.
        overwrite: replace the file; with `resume`, only if it holds other activations.
    """
    view, settings, path = view or View(), settings or Extraction(), Path(path)
    require_instance("model", model, nn.Module)
    require_instance("view", view, View)
    layers = as_names(layers)
    check_layers(layers, layer_names(model))
    config: dict[str, Any] = {
        "layers": list(layers),
        "view": {key: _listed(value) for key, value in asdict(view).items()},
        "degrees": degrees,
        **asdict(settings),
        "stimuli": stimuli.fingerprint,
        "weights": weights_fingerprint(model),
        "structure": structure_fingerprint(model),
    }
    common = {"path": path, "kind": "activations", "config": config, "device": str(device)}
    kept = resume and path.exists() and (_config(path) == config or not overwrite)
    done = _rows(path) if kept else None
    if done == len(stimuli.ids) and _config(path) == config:
        return path
    with _measuring(model, device) as watched:

        def show(start: int, stop: int) -> dict[str, np.ndarray]:
            x = view(stimuli.images(start, stop), degrees).to(device)
            return watched(x, layers, settings)

        first = show(0, 1)
        writer = RunWriter(**common, overwrite=overwrite) if done is None else RunWriter.resume(
            **common
        )  # fmt: skip
        with writer as file:
            _declare(file, stimuli.ids, first)
            file.start()
            # A batch that was cut off is shown whole again: its rounding depends on its size.
            for start in range((done or 0) // settings.batch * settings.batch, len(stimuli.ids),
                               settings.batch):  # fmt: skip
                stop = min(start + settings.batch, len(stimuli.ids))
                found = show(start, stop)
                for row in range(max(start, done or 0), stop):
                    values = {_place(name): v[row - start] for name, v in found.items()}
                    file.append("stimulus", {"stimulus": row, **values})
    return path


class Activations(Mapping[str, np.ndarray]):
    """The layers of a file, read when they are asked for: (stimuli, features)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with RunReader(self.path) as run:
            if run.kind != "activations":
                raise RunFileError(f"{path}: must be of kind 'activations', got {run.kind!r}")
            self.layers = tuple(run.config["layers"])
            self.ids = tuple(run["stimulus_id"].tolist())
            shown = len(run["stimulus"])
        if shown < len(self.ids):
            raise RunFileError(
                f"{path}: holds {shown} of {len(self.ids)} stimuli; extract again with resume"
            )

    def maps(self, layer: str) -> np.ndarray:
        """(stimuli, channels, rows, columns), or (stimuli, features) where there is no map."""
        check_layers([layer], self.layers)
        with RunReader(self.path) as run:
            return run[_place(layer)]

    def __getitem__(self, layer: str) -> np.ndarray:
        values = self.maps(layer)
        return values.reshape(len(values), -1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


def _place(layer: str) -> str:
    return f"layers/{layer}/activation"


def _declare(file: RunWriter, ids: Sequence[str], first: Mapping[str, np.ndarray]) -> None:
    """Axes and datasets, as the first stimulus shows them."""
    file.scale("stimulus", dtype="i8", description="number of the stimulus")
    file.scale("presented", np.arange(len(ids)), description="number of the stimulus")
    file.constant("stimulus_id", np.array(ids), ("presented",), description="name of the stimulus")
    for layer, values in first.items():
        axes = [f"layers/{layer}/{axis}" for axis in AXES[values.ndim - 1]]
        for axis, size in zip(axes, values.shape[1:], strict=True):
            file.scale(axis, np.arange(size))
        file.dataset(_place(layer), ("stimulus", *axes), values.dtype, description=layer)


class _Watched:
    """A network whose layers' outputs are kept while it sees a batch."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(
        self, x: Tensor, layers: Sequence[str], settings: Extraction
    ) -> dict[str, np.ndarray]:
        """(batch, channels, rows, columns) or (batch, features) of every layer."""
        kept: dict[str, np.ndarray] = {}

        def keep(name: str, module: nn.Module, given: Any, output: Any) -> None:
            # Copied at once: a later layer may work in place. Of several calls the last counts.
            kept[name] = _plain(name, output, len(x), settings)

        modules = dict(self.model.named_modules())
        hooks = [modules[name].register_forward_hook(partial(keep, name)) for name in layers]
        try:
            self.model(x)
        finally:
            for hook in hooks:
                hook.remove()
        if silent := [name for name in layers if name not in kept]:
            raise InvalidArgument(f"layer {silent[0]!r} took no part in the network's answer")
        return {name: kept[name] for name in layers}


def _plain(name: str, output: Any, batch: int, settings: Extraction) -> np.ndarray:
    """A copy of a layer's output: a map for every stimulus, or else a vector."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != batch:
        shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        raise InvalidArgument(
            f"layer {name!r} must give one tensor with a row per stimulus, got "
            f"{type(output).__name__}{shape}"
        )
    output = output.float()
    if output.ndim != 4:
        output = output.flatten(1)
    elif settings.pool is not None and max(output.shape[-2:]) > settings.pool:
        rows, columns = (min(settings.pool, size) for size in output.shape[-2:])
        output = adaptive_avg_pool2d(output, (rows, columns))
    array = output.cpu().numpy().astype(settings.dtype)
    if not np.isfinite(array).all():
        raise InvalidArgument(
            f"activations of layer {name!r} must be finite in {settings.dtype}, got NaN or Inf"
        )
    return array


@contextmanager
def _measuring(model: nn.Module, device: str | torch.device) -> Iterator[_Watched]:
    """Evaluation mode without gradients, autocast and reduced precision; afterwards as before."""
    modes = {module: module.training for module in model.modules()}
    kind = torch.device(device).type
    model.to(device).eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(kind, enabled=False),
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
        ):
            yield _Watched(model)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _listed(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _rows(path: Path) -> int:
    with RunReader(path) as run:
        return len(run["stimulus"])


def _config(path: Path) -> Any:
    with RunReader(path) as run:
        if run.kind != "activations":
            raise RunFileError(f"{path}: must be of kind 'activations', got {run.kind!r}")
        return run.config
