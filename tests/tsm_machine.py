"""Runs a command on a made-up confidential machine: `tsm_machine.py FOLDER PROVIDER PYTHON -m enclave_api ...`.

The server is the real one; what it finds at the kernel's place is tests/tsm_kernel.py's folder, and behind it a chip
whose vendor is made up (tests/unit/snp_machine.py). The vendor's root is written to FOLDER/root.der.
"""

import struct
import sys
from functools import partial
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding

from enclave_api import app
from enclave_api.cli.main import main
from tests.tsm_kernel import Kernel
from tests.unit.snp_machine import Machine, root

# AMD publication 56421, "SNP Extended Guest Request": VCEK, ASK, ARK
GUIDS = (
    UUID("63da758d-e664-4564-adc5-f4b93be8accd"),
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),
)


def table(certificates: tuple[bytes, ...]) -> bytes:
    """The table in which a host hands certificates over."""
    head, body, start = b"", b"", 24 * (len(certificates) + 1)
    for guid, der in zip(GUIDS, certificates, strict=True):
        head += struct.pack("<16sII", guid.bytes_le, start + len(body), len(der))
        body += der
    return head + bytes(24) + body


def report(certificates: bytes, data: bytes) -> tuple[bytes, bytes]:
    """What the firmware answers: a signed report over the data, and the host's table."""
    return Machine(members={0x50: data}).report(), certificates


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "report").mkdir(parents=True, exist_ok=True)
    (folder / "root.der").write_bytes(root("Milan").public_bytes(Encoding.DER))
    chain = table(Machine().material().certificates)
    kernel = Kernel(folder / "report", sys.argv[2], partial(report, chain), floor=0)
    setattr(app, "ReportFolder", lambda: kernel)  # noqa: B010 - a name that the module imports, not one of its own
    sys.argv = [sys.argv[5], *sys.argv[6:]]
    main()
