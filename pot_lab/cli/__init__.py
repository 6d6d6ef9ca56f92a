"""The command line `pot-lab`: one command a file, its options beside the function that runs it."""
