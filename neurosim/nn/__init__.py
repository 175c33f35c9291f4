"""The network level: layers for torch whose neurons keep their own weights."""

from neurosim.nn.arrange import arrange as arrange
from neurosim.nn.banks import Bank as Bank
from neurosim.nn.convert import low_rank_of as low_rank_of
from neurosim.nn.convert import pointwise as pointwise
from neurosim.nn.convert import to_conv as to_conv
from neurosim.nn.convert import to_dense as to_dense
from neurosim.nn.convert import to_local as to_local
from neurosim.nn.convert import to_low_rank as to_low_rank
from neurosim.nn.convert import to_sparse as to_sparse
from neurosim.nn.dense import Dense as Dense
from neurosim.nn.dense import restrict as restrict
from neurosim.nn.local import LocallyConnected1d as LocallyConnected1d
from neurosim.nn.local import LocallyConnected2d as LocallyConnected2d
from neurosim.nn.local import LocallyConnected3d as LocallyConnected3d
from neurosim.nn.low_rank import LowRankLocal2d as LowRankLocal2d
from neurosim.nn.permute import PermutePixels as PermutePixels
from neurosim.nn.sparse import SparseLinear as SparseLinear
