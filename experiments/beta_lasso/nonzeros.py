"""Fig. 3: how many weights beta-LASSO leaves in every layer, over training.

Claim: the first layer of S-FC, fully connected at the start, ends with fewer weights than
S-LOCAL's and a few more than S-CONV's; the second becomes sparse, too, the last hardly.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from analysis import figures
from analysis.training.nonzeros import left_over_time
from experiments.beta_lasso.measures import remains, remains_table, write_remains
from experiments.beta_lasso.setting import Lasso, first_and_last
from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant, report, run_variants
from neurosim.models import shallow
from neurosim.models.connect import Connectivity
from neurosim.optim.groups import layer_weights
from neurosim.recording import RunReader


def variants(lasso: Lasso, options: TrainingOptions) -> list[Variant]:
    """S-FC by beta-LASSO."""
    settings = first_and_last(lasso.lasso(lasso.base(options)))
    return [Variant(f"S-FC-beta{lasso.beta:g}", settings)]


def run(lasso: Lasso, options: TrainingOptions) -> Report:
    """Fig. 3: non-zero weights of S-FC's three layers over training, beside S-CONV and S-LOCAL.

    Args:
        lasso: The penalty and sizes.
        options: What to train on, how long, and where results go.
    """
    lasso.check()
    name = "betalasso-nonzeros"
    rows = variants(lasso, options)
    folder, outcomes = run_variants(name, rows, options, (0,))
    found = report(name, folder, outcomes, {})
    left = remains(outcomes)
    found.table = write_remains(folder / f"{name}.csv", left)
    with RunReader(outcomes[0].files[0]) as file:
        about = rows[0].settings.network
        relatives = relatives_sizes(about.channels, about.kernel or 9, *_image(file))
        drawn = left_over_time(file, relatives)
    found.figures += figures.save(drawn, folder / f"{name}-layers")
    for relative, sizes in relatives.items():
        shown = " ".join(f"{size:,}" for size in sizes)
        found.lines.append(f"{relative}: {shown} weights")
    mean = np.mean([one.nonzeros for one in left], axis=0)
    found.lines += [f"S-FC: {' '.join(f'{n:,.0f}' for n in mean)} weights left of "
                    f"{' '.join(f'{n:,}' for n in left[0].parameters)}"]  # fmt: skip
    found.lines += ["", *remains_table(left)]
    found.values |= {"weights": [vars(one) for one in left], "relatives": relatives}
    return found


def _image(run: RunReader) -> tuple[int, tuple[int, int]]:
    """Channels and size of the images, from the first layer's recorded shape."""
    channels, height, width = (int(n) for n in run["weights/conv1/input_shape"])
    return channels, (height, width)


def relatives_sizes(
    channels: int, kernel: int, in_channels: int, size: tuple[int, int]
) -> dict[str, list[int]]:
    """Weights of the layers of S-CONV and S-LOCAL with the same embedding."""
    found = {}
    with torch.device("meta"):
        kinds: dict[str, Connectivity] = {"S-CONV": "conv", "S-LOCAL": "local"}
        for name, kind in kinds.items():
            network = shallow(10, kind, size, in_channels, channels, kernel)
            found[name] = [prod(weight.shape) for weight in layer_weights(network).values()]
    return found
