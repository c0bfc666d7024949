"""The walled processes in which a bank's model runs."""
