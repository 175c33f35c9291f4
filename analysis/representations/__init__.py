"""What networks respond: activations, their similarity, their invariance."""
