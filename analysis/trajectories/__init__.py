"""What the weights of a training run did: equality, distances, spectra, drift, over time."""
