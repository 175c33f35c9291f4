"""Analysis: reads run files and returns numbers first, figures second."""
