"""The task cycle of an order: transactions, windows, sealing."""
