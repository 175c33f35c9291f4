"""Learning curves of training runs."""

from analysis.training.curves import FilterSeries as FilterSeries
from analysis.training.curves import TrainingCurves as TrainingCurves
from analysis.training.curves import training_curves as training_curves
from analysis.training.sleeps import SleepDecay as SleepDecay
from analysis.training.sleeps import recorded_series as recorded_series
from analysis.training.sleeps import sleep_decay as sleep_decay
