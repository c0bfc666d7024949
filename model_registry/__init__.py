"""Sealed bundles, admission of models, versions and their lifecycle, the bank's rules."""
