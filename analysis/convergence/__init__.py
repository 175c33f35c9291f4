"""Convergence studies of the circuit: SNR, limits, noise, orders of integrators."""

from analysis.convergence.integrators import IntegratorOrder as IntegratorOrder
from analysis.convergence.integrators import integrator_orders as integrator_orders
from analysis.convergence.noise import NoiseCurves as NoiseCurves
from analysis.convergence.noise import fit_slope as fit_slope
from analysis.convergence.noise import noise_curves as noise_curves
from analysis.convergence.snr import ConvergenceCurves as ConvergenceCurves
from analysis.convergence.snr import convergence_curves as convergence_curves
from analysis.convergence.snr import is_floored as is_floored
from analysis.convergence.snr import log_inverse_snr as log_inverse_snr
