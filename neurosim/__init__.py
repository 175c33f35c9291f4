"""neurosim: weight sharing without shared weights, from circuit to network to trajectory."""

__version__ = "0.1.0"
