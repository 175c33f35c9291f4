"""Optimizers: of the papers, those that torch does not have, and torch's without a copy."""

from neurosim.optim.beta_lasso import BetaLasso as BetaLasso
from neurosim.optim.fused import Adam as Adam
from neurosim.optim.fused import AdamW as AdamW
from neurosim.optim.groups import lasso_groups as lasso_groups
from neurosim.optim.in_backward import step_in_backward as step_in_backward
from neurosim.optim.step import BACKENDS as BACKENDS
