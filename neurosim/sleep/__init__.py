"""Sleep: locally connected layers share their weights by the dynamics of the circuit."""

from neurosim.sleep.circuit import Circuit as Circuit
from neurosim.sleep.frame import Frame as Frame
from neurosim.sleep.frame import frame_of as frame_of
from neurosim.sleep.hebbian import Hebbian as Hebbian
from neurosim.sleep.instant import Instant as Instant
from neurosim.sleep.layers import local_layers as local_layers
from neurosim.sleep.layerwise import Layerwise as Layerwise
from neurosim.sleep.moments import share_moments as share_moments
from neurosim.sleep.operator import Operator as Operator
from neurosim.sleep.orders import Agreement as Agreement
from neurosim.sleep.orders import compare_orders as compare_orders
from neurosim.sleep.patterns import Patterns as Patterns
from neurosim.sleep.patterns import Tiles as Tiles
from neurosim.sleep.schedule import AtSteps as AtSteps
from neurosim.sleep.schedule import BelowSNR as BelowSNR
from neurosim.sleep.schedule import EveryBatches as EveryBatches
from neurosim.sleep.schedule import EveryEpochs as EveryEpochs
from neurosim.sleep.schedule import Moment as Moment
from neurosim.sleep.schedule import Schedule as Schedule
from neurosim.sleep.share import Sleep as Sleep
from neurosim.sleep.share import Slept as Slept
from neurosim.sleep.share import share as share
from neurosim.sleep.statistics import LayerStatistics as LayerStatistics
from neurosim.sleep.statistics import layer_statistics as layer_statistics
