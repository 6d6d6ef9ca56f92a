"""The command line `pot-lab`: one command a file."""
