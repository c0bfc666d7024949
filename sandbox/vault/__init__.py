"""Departments, datasets, fields; packed records; the encrypted store; loading."""
