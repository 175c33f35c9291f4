"""Everything that defines a training run; what a run file and a checkpoint record of it.

The dataclasses are plain settings: names, numbers and choices, so that a run can be written down
as JSON, compared with another, and given on the command line.
"""

from neurosim.training.settings.data import DataSettings as DataSettings
from neurosim.training.settings.network import Connectivity as Connectivity
from neurosim.training.settings.network import NetworkSettings as NetworkSettings
from neurosim.training.settings.optimisation import OptimisationSettings as OptimisationSettings
from neurosim.training.settings.optimisation import Precision as Precision
from neurosim.training.settings.record import RecordSettings as RecordSettings
from neurosim.training.settings.run import TrainSettings as TrainSettings
from neurosim.training.settings.sleep import SleepSettings as SleepSettings
