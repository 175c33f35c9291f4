"""One HDF5 file per run, readable while it is written and after its writer was killed."""

from neurosim.recording.background import BackgroundWriter as BackgroundWriter
from neurosim.recording.inspect import describe_lines as describe_lines
from neurosim.recording.inspect import describe_values as describe_values
from neurosim.recording.reader import RunReader as RunReader
from neurosim.recording.schema import Status as Status
from neurosim.recording.segment import Description as Description
from neurosim.recording.writer import RunWriter as RunWriter
