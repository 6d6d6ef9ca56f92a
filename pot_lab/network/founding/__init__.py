"""How a network of several operators begins: keys on each host, public cards, one file that all sign, and checks."""
