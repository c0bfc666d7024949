"""What the enclave claims about itself, and how a bank checks it."""
