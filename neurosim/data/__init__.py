"""Data sets, and loaders that make their batches where they are needed."""

from neurosim.data.augment import Augment as Augment
from neurosim.data.distort import Distortion as Distortion
from neurosim.data.distort import EdgeNoise as EdgeNoise
from neurosim.data.distort import Noise as Noise
from neurosim.data.distort import Rotation as Rotation
from neurosim.data.distort import Swap as Swap
from neurosim.data.distort import Translation as Translation
from neurosim.data.distort import distortion as distortion
from neurosim.data.errors import DataError as DataError
from neurosim.data.images import Dataset as Dataset
from neurosim.data.images import Files as Files
from neurosim.data.images import Images as Images
from neurosim.data.loader import Loader as Loader
from neurosim.data.sources import DATASETS as DATASETS
from neurosim.data.sources import data_folder as data_folder
from neurosim.data.sources import load as load
from neurosim.data.sources import options_of as options_of
