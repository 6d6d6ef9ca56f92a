"""PoT Lab: order a training from a notebook, pay whoever returns the best model."""
