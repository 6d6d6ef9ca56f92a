"""What a person is shown of an order, as data: the same for a notebook's output, the panel and the command line."""
