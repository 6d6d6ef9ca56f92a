"""A network of processes on this host: found it, start it, find it, stop it."""
