"""Analysis: reads run files and activations, returns numbers first, figures second."""
