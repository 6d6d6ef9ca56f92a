"""The client of a network: links, submissions, queries, event streams."""
