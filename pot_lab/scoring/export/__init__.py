"""From a torch module to a model graph."""
