"""What the weights of a training run did: equality, distances, spectra, drift, over time."""

from analysis.trajectories.equality import Equality as Equality
from analysis.trajectories.equality import equality as equality
from analysis.trajectories.filters import all_radii as all_radii
from analysis.trajectories.filters import filter_distances as filter_distances
from analysis.trajectories.series import Trajectory as Trajectory
from analysis.trajectories.series import Wanted as Wanted
from analysis.trajectories.series import trajectory as trajectory
from analysis.trajectories.series import weight_trajectories as weight_trajectories
from analysis.trajectories.spectra import Spectrum as Spectrum
from analysis.trajectories.spectra import spectrum as spectrum
from analysis.trajectories.weights import RecordedLayer as RecordedLayer
from analysis.trajectories.weights import chosen_layers as chosen_layers
from analysis.trajectories.weights import has_weights as has_weights
from analysis.trajectories.weights import read_weight as read_weight
from analysis.trajectories.weights import recorded_layers as recorded_layers
