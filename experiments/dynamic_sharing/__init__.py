"""Towards Biologically Plausible Convolutional Networks (Pogodin et al. 2021)."""
