"""What the bench of the ledger is made of."""
