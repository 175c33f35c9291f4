"""One HDF5 file per run, readable while it is written and after its writer was killed."""

from neurosim.recording.inspect import describe_lines
from neurosim.recording.reader import Description, RunReader
from neurosim.recording.schema import Status
from neurosim.recording.writer import RunWriter

__all__ = ["Description", "RunReader", "RunWriter", "Status", "describe_lines"]
