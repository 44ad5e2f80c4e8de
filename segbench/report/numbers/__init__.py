"""What the ledger holds of one protocol, and every number of the comparison. Nothing here draws."""
