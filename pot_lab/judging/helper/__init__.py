"""What runs inside a helper process, beside an aggregator and never in it: the part that opens strangers' files."""
