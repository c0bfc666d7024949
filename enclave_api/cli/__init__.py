"""The command line: `heixia ...`."""
