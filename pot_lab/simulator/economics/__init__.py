"""What honest work and dishonest strategies are worth, by playing the real ledger (docs/explanation/economics.md)."""
