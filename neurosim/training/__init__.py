"""Training: wake phases by gradient descent, sleep phases by the circuit, all of it recorded."""

from neurosim.training.loop import train as train
from neurosim.training.place import Place as Place
from neurosim.training.place import Result as Result
from neurosim.training.settings import DataSettings as DataSettings
from neurosim.training.settings import NetworkSettings as NetworkSettings
from neurosim.training.settings import OptimisationSettings as OptimisationSettings
from neurosim.training.settings import RecordSettings as RecordSettings
from neurosim.training.settings import SleepSettings as SleepSettings
from neurosim.training.settings import TrainSettings as TrainSettings
