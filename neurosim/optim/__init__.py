"""Optimizers of the papers that torch does not have."""

from neurosim.optim.beta_lasso import BetaLasso as BetaLasso
from neurosim.optim.groups import lasso_groups as lasso_groups
from neurosim.optim.step import BACKENDS as BACKENDS
