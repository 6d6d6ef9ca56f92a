"""A model as data: document, then trace, then graph."""
