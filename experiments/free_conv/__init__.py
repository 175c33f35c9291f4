"""Ott et al. 2020, Learning in the machine: To share or not to share? (Neural Networks)."""
