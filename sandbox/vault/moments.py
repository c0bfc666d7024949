"""Moments that records and consents compare, in milliseconds since 1970-01-01 UTC."""

FOREVER_MS = 2**62  # after every moment; fits SQLite's integers
