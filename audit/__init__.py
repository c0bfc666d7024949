"""The ground floor: the ledger that every change of state goes through. Knows nothing of the floors above."""
