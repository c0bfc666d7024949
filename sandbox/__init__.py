"""The black box: consent, join, one-shot jail, gate, commit."""
