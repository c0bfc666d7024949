"""The doors: gRPC servicers, identities, attestation, keys, client SDK, command line."""

__version__ = "0.1.0"
