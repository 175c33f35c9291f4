"""Towards Learning Convolutions from Scratch (Neyshabur 2020): its tables and figures, and more."""
