"""Studies of many runs, spread over processes and machines by Dask.

`grid` and `options` say what is run, `folder`, `chunks` and `index` what is kept, `batches` and
`engine` decide what runs next, `worker` runs it, `clusters` knows where. What reads a study needs
no Dask.
"""

from neurosim.sweeps.chunks import read_arrays as read_arrays
from neurosim.sweeps.clusters import Job as Job
from neurosim.sweeps.clusters import Place as Place
from neurosim.sweeps.folder import StudyFolder as StudyFolder
from neurosim.sweeps.grid import Grid as Grid
from neurosim.sweeps.grid import Point as Point
from neurosim.sweeps.grid import build_grid as build_grid
from neurosim.sweeps.grid import read_words as read_words
from neurosim.sweeps.index import Record as Record
from neurosim.sweeps.index import read_records as read_records
from neurosim.sweeps.status import status_lines as status_lines
from neurosim.sweeps.sweep import Asked as Asked
from neurosim.sweeps.sweep import How as How
from neurosim.sweeps.sweep import Study as Study
from neurosim.sweeps.sweep import Swept as Swept
from neurosim.sweeps.sweep import run_points as run_points
from neurosim.sweeps.sweep import sweep as sweep
from neurosim.sweeps.sweep import sweep_study as sweep_study
