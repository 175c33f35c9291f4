"""Experiments: one small file per published table or figure; its docstring states the claim.

`commands` has what `neurosim` does, a module for each word, `common` what they and the papers'
folders share (`common.registry` lists the experiments), `performance` benchmarks, `records` what
came out.
"""
