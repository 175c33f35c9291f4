"""Revisiting Spatial Invariance with Low-Rank Local Connectivity (Elsayed et al. 2020)."""
