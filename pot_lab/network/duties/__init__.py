"""What an aggregator does besides ordering, one duty a file."""
