"""From one kind of layer to another in whole models, which keep all the rest of what they are.

Convolutions, locally connected and low-rank layers and `Dense` ones lead to each other, linear ones
to sparse ones. `find` says which layers a conversion is for, `replace` puts others in their place.
"""

from neurosim.nn.convert.conv import Spread as Spread
from neurosim.nn.convert.conv import to_conv as to_conv
from neurosim.nn.convert.dense import to_dense as to_dense
from neurosim.nn.convert.find import Example as Example
from neurosim.nn.convert.find import Skip as Skip
from neurosim.nn.convert.find import pointwise as pointwise
from neurosim.nn.convert.local import Init as Init
from neurosim.nn.convert.local import to_local as to_local
from neurosim.nn.convert.low_rank import low_rank_of as low_rank_of
from neurosim.nn.convert.low_rank import to_low_rank as to_low_rank
from neurosim.nn.convert.sparse import to_sparse as to_sparse
