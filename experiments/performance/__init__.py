"""Measurements of speed and memory, always beside a plain reference in the same run."""
