"""Hyperparameter searches: the papers' grids of rate and decay on a validation split (App. B).

Where a grid is too large, `--sampler` lets optuna's sampler choose from the range that the grid's
values span instead. Either way every network that was trained is a point of a study
(`neurosim.sweeps`), trained wherever there is room; the same command with the same --out goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.sweeps import collect
from analysis.training import training_curves
from experiments.dynamic_sharing.digits import variants as digits_variants
from experiments.dynamic_sharing.table1 import Table1
from experiments.dynamic_sharing.table1 import variants as table1_variants
from experiments.dynamic_sharing.table2 import Table2
from experiments.dynamic_sharing.table2 import variants as table2_variants
from experiments.report import Report, table
from experiments.training import TrainingOptions, Variant
from neurosim.errors import require_choice
