"""What the ledger and consensus share: quorums, signed votes, the application's interface, evidence."""
