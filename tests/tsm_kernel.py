"""A folder that behaves like the kernel's configfs-tsm: real files below a real folder, filled as the kernel would.

Only what the kernel does of itself is made up: attributes that appear, `generation` that counts, a report that is made
when it is read. What the code under test does with the files (open, read, write, close) is its own.
"""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from enclave_api.attestation.tsm import ReportFolder

Answer = Callable[[bytes], tuple[bytes, bytes]]
"""64 bytes → report and certificate table."""


def echo(data: bytes) -> tuple[bytes, bytes]:
    """A report that is the data between two words, and no table."""
    return b"report over " + data + b" ends", b""


@dataclass(frozen=True)
class Kernel(ReportFolder):
    """The kernel and the firmware behind it.

    Attributes:
        provider: its name of the format; "" = no hardware: orders cannot be made.
        answer: what the firmware says.
        floor: `privlevel_floor`; None = there is none, as with TDX.
        faults: what to do instead at the next touches of `make`, `remove`, or of an attribute: raise an error, or call
            something and go on. One for each touch, in turn.
        written: every write: attribute and content.
        orders: every order that was made, in turn.
        piece: how many bytes a read of the report gives at most.
    """

    root: Path
    provider: str = "sev_guest"
    answer: Answer = echo
    floor: int | None = None
    faults: dict[str, list[OSError | Callable[[str], None]]] = field(default_factory=dict)
    written: list[tuple[str, bytes]] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    piece: int = 0

    def make(self, name: str) -> None:
        """Makes the order's folder and its attributes."""
        self._fault("make", name)
        if not self.provider:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), name)
        super().make(name)
        self.orders.append(name)
        files = {"provider": f"{self.provider}\n", "generation": "0\n", "inblob": ""}
        if self.floor is not None:
            files |= {"privlevel_floor": f"{self.floor}\n", "privlevel": ""}
        for attribute, content in files.items():
            (self.root / name / attribute).write_text(content)

    def remove(self, name: str) -> None:
        """Removes the order with its attributes, which configfs does and a plain folder does not."""
        self._fault("remove", name)
        for file in (self.root / name).iterdir():
            file.unlink()
        super().remove(name)

    def write(self, name: str, attribute: str, content: bytes) -> None:
        """Takes a write; `generation` counts it."""
        self._fault(attribute, name)
        super().write(name, attribute, content)
        self.written.append((attribute, content))
        self.count(name)

    def count(self, name: str) -> None:
        """What each write does, ours or another's."""
        generation = self.root / name / "generation"
        generation.write_text(f"{int(generation.read_text()) + 1}\n")

    def read(self, name: str, attribute: str, bytes_max: int) -> bytes:
        """Makes the report when it is first read."""
        self._fault(attribute, name)
        writer = self._make_report(name) if attribute == "outblob" else None
        found = super().read(name, attribute, bytes_max)
        if writer:
            writer.join()
        return found

    def _make_report(self, name: str) -> threading.Thread | None:
        order = self.root / name
        data = (order / "inblob").read_bytes()
        if not data:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), "outblob")
        report, table = self.answer(data)
        if table:
            (order / "auxblob").write_bytes(table)
        if not self.piece:
            (order / "outblob").write_bytes(report)
            return None
        # a pipe gives what is there: reads come short
        os.mkfifo(order / "outblob")
        thread = threading.Thread(target=self._drip, args=(order / "outblob", report))
        thread.start()
        return thread

    def _drip(self, pipe: Path, report: bytes) -> None:
        with pipe.open("wb", buffering=0) as file:
            for start in range(0, len(report), self.piece):
                file.write(report[start : start + self.piece])

    def _fault(self, touched: str, name: str) -> None:
        if waiting := self.faults.get(touched):
            fault = waiting.pop(0)
            if isinstance(fault, OSError):
                raise fault
            fault(name)
