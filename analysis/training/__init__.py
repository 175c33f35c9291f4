"""Learning curves of training runs."""

from analysis.training.curves import FilterSeries as FilterSeries
from analysis.training.curves import TrainingCurves as TrainingCurves
from analysis.training.curves import training_curves as training_curves
