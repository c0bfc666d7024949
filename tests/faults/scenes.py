"""What is hurt: a ledger under group commit, and an export that goes on from an earlier one."""

import atexit
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from audit.findings import Verdict
from audit.source import FolderSource
from bench.history import TRUST, build
from enclave_api.fsck import check_source
from enclave_api.home import Home
from tests.faults.export_story import REFUSED, export
from tests.faults.story import BAD_START, database
from tests.faults.verdict import Told, check, require

Done = subprocess.CompletedProcess[str]
KILLED = -9


class Scene(Protocol):
    """A short program, the files that it is hurt at, and what must hold afterwards."""

    @property
    def name(self) -> str:
        """For tables."""

    def prepare(self, folder: Path) -> None:
        """Puts into a fresh folder what the program finds."""

    def paths(self, folder: Path) -> list[Path]:
        """Files and folders; no other call is touched."""

    def command(self, folder: Path) -> list[str]:
        """The program."""

    def judge(self, folder: Path, done: Done) -> str:
        """In a word how it ended; raises Broken, HeixiaError where a law does not hold."""


@dataclass(frozen=True)
class LedgerScene:
    """tests/faults/story.py."""

    name: str = "ledger"

    def prepare(self, folder: Path) -> None:
        """An empty folder for the anchor."""
        (folder / "anchor").mkdir()

    def paths(self, folder: Path) -> list[Path]:
        """Database and anchor."""
        base, anchor = database(folder), folder / "anchor"
        beside = [Path(f"{base}{end}") for end in ("-wal", "-shm")]
        return [base, *beside, folder, anchor, anchor / "checkpoint", anchor / "checkpoint.new"]

    def command(self, folder: Path) -> list[str]:
        """The story."""
        return [sys.executable, "-m", "tests.faults.story", str(folder), str(folder / "anchor")]

    def judge(self, folder: Path, done: Done) -> str:
        """`answered`: every change got its answer: the call was one that SQLite or the anchor can do without."""
        told = Told.parse(done.stdout.splitlines())
        check(folder, told)
        words = {KILLED: "killed", BAD_START: "not started", 0: "closed" if told.unknown else "answered"}
        require(done.returncode in words, f"exit {done.returncode}: {done.stderr[-300:]}")
        return words[done.returncode]


@dataclass(frozen=True)
class ExportScene:
    """A log of 700 entries, exported to where its first 300 are."""

    name: str = "export"
    before: int = 300
    after: int = 700

    def prepare(self, folder: Path) -> None:
        """A copy of the log and of its earlier export."""
        shutil.copytree(self._made / "home", folder, dirs_exist_ok=True)

    def paths(self, folder: Path) -> list[Path]:
        """Every file and folder of the earlier export and the later one, and the name each is first written under."""
        names = {path.relative_to(root) for root in self._roots for path in root.rglob("*")}
        here = [folder / "export" / name for name in sorted(names)]
        return [folder / "export", *here, *(path.with_name(path.name + ".new") for path in here)]

    def command(self, folder: Path) -> list[str]:
        """The export."""
        return [sys.executable, "-m", "tests.faults.export_story", str(folder)]

    def judge(self, folder: Path, done: Done) -> str:
        """What is there verifies, as the earlier state or the later; done again it is the later, file for file."""
        exported = folder / "export"
        size = self._check(exported)
        require(size == self.after or (size == self.before and done.returncode != 0), f"{size} entries are exported")
        words = {KILLED: "killed", REFUSED: "refused", 0: "answered"}
        require(done.returncode in words, f"exit {done.returncode}: {done.stderr[-300:]}")
        export(folder)
        require(_files(exported) == _files(self._roots[1]), "done again it is not what it is without a fault")
        return words[done.returncode]

    def _check(self, exported: Path) -> int:
        report = check_source(FolderSource(exported), TRUST, lambda *_: None)
        require(report.verdicts == (Verdict.SOUND, Verdict.SOUND), f"the export: {report.as_dict()}")
        return report.integrity.entries

    @property
    def _roots(self) -> list[Path]:
        return [self._made / "home" / "export", self._made / "clean" / "export"]

    @cached_property
    def _made(self) -> Path:
        """`home`: the log, and the export of its beginning; `clean`: the same after an export without a fault."""
        made = Path(tempfile.mkdtemp(prefix="heixia-faults-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        home, clean = made / "home", made / "clean"
        home.mkdir()
        for size, _ in build(Home(home).database, [self.before, self.after]):
            if size == self.before:
                export(home)
        shutil.copytree(home, clean)
        export(clean)
        return made


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


SCENES: tuple[Scene, ...] = (LedgerScene(), ExportScene())
