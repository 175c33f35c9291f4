"""Convergence studies of the circuit: SNR, limits, noise, orders of integrators."""
