"""The running enclave of the integration tests, for faults in a real server."""

from tests.integration.conftest import example, stage, world

__all__ = ["example", "stage", "world"]
