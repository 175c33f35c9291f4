"""What `neurosim` does: one module for each word of the command line."""
