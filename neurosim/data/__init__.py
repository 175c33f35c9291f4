"""Data sets, and loaders that make their batches where they are needed."""

from neurosim.data.augment import Augment as Augment
from neurosim.data.errors import DataError as DataError
from neurosim.data.images import Dataset as Dataset
from neurosim.data.images import Files as Files
from neurosim.data.images import Images as Images
from neurosim.data.loader import Loader as Loader
from neurosim.data.sources import DATASETS as DATASETS
from neurosim.data.sources import data_folder as data_folder
from neurosim.data.sources import load as load
