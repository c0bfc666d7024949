"""The doors: gRPC servicers, identities, attestation, keys, client SDK, command line."""
