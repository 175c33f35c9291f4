"""The error of this package."""

from neurosim.errors import NeurosimError


class DataError(NeurosimError):
    """A file of data is missing, damaged, of an unknown form or not what it should be."""
