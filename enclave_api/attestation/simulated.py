"""Who vouches for the claims: the port, and the one who does not."""

from typing import Protocol

from enclave_api.attestation.evidence import SIMULATED, Evidence, report_data


class Attester(Protocol):
    """Makes evidence of claims. `format` is what evidence, decisions and the log call it."""

    @property
    def format(self) -> str:
        """`sev-snp`, `tdx` or `simulated`."""

    async def attest(self, claims: bytes) -> Evidence:
        """Evidence whose report is over these claims; raises EvidenceUnavailable, Busy."""


class Simulated:
    """Evidence that nobody vouches for: the report is the bare report data."""

    format = SIMULATED

    async def attest(self, claims: bytes) -> Evidence:
        """The claims, and their hash in a report's place."""
        return simulated(claims)


def simulated(claims: bytes) -> Evidence:
    """Simulated evidence of claims."""
    return Evidence(claims, SIMULATED, report_data(claims))
