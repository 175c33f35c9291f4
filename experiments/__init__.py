"""Experiments: one small file per published table or figure; its docstring states the claim."""
