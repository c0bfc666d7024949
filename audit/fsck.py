"""The first verdict on a log, its integrity: is what is stored what was signed?

Every tile of every level and the root are derived anew from the entry bundles alone and compared with the stored tiles
and the signed checkpoint. Entries are read strictly, their times never go back. Each good entry is handed on in order,
so that one reading serves the second verdict too (sandbox/replay). Pure over a `LogSource`; memory does not grow with
the log: a list of at most 256 hashes a level.

Of a part of a log (`first`, `end`) the bundles there are derived, and stored hashes lead from them to the root.

Source: c2sp.org/tlog-tiles; RFC 6962 section 2.1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit.errors import EntryUnknown, LedgerCorrupt, ProofInvalid
from audit.findings import Findings
from audit.merkle import root_hash
from audit.note import Checkpoint, Note
from audit.policy import NONE, Policy
from audit.rederive import Visit, Walk
from audit.source import LogSource, hash_reader

_PUBLISHED: Final = "public/checkpoint"

TEXTS: Final = {
    "checkpoint_malformed": "the checkpoint is no signed note of a tree's size and root",
    "checkpoint_unsigned": "no log of the policy signed the checkpoint, or a signature under it is false",
    "quorum_missing": "the checkpoint is not cosigned by the policy's quorum of witnesses",
    "bundle_missing": "the entry bundle is not there",
    "bundle_malformed": "the entry bundle is cut, too long or wrongly divided from here on",
    "tile_missing": "the tile is not there",
    "tile_malformed": "the tile is not as long as its width says",
    "entry_missing": "the entry is empty or not there",
    "entry_malformed": "the entry is not canonical JSON of a known kind",
    "leaf_differs": "the entry is not the one that the tile of level 0 has the hash of",
    "tile_differs": "the tile is not what the entries under it lead to",
    "time_back": "the entry is older than the one before it",
    "root_differs": "the entries do not lead to the signed root",
    "head_differs": "the head row does not say what its checkpoint and the last entry say",
    "published_differs": "the published checkpoint is not the log's, or not of an earlier state of it",
    "rows_superfluous": "there are rows of entries or hashes outside of the log",
}


@dataclass(frozen=True)
class Integrity:
    """What was checked, and what was found.

    Attributes:
        checkpoint: as the log signed it; None where it did not: then nothing else was looked at.
        entries: how many were read.
        whole_until: all entries from the first one asked for up to this index were good and handed on.
        last_time: of the last good entry.
        findings: in the order of the log.
    """

    checkpoint: Checkpoint | None
    entries: int
    whole_until: int
    last_time: datetime | None
    findings: Findings


def check_log(
    source: LogSource,
    policy: Policy,
    visit: Visit,
    *,
    first: int = 0,
    end: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Integrity:
    """Check a log, or the part of it that the bundles around entries first .. end - 1 make up.

    Args:
        source: the log.
        policy: whose log it must be, and who must have cosigned it.
        visit: gets index, event and time of each good entry in order, up to the first that is not.
        first: index of the first entry; the bundle it lies in is read whole.
        end: index behind the last entry; None = all. Where the part is less than the log, the rest is taken as stored.
        progress: called after each bundle with the entries read and to be read.

    Raises:
        EntryUnknown: there is no checkpoint.
    """
    findings = Findings(TEXTS)
    # (1) The checkpoint, signed and cosigned as the policy asks.
    checkpoint = _read_checkpoint(source.checkpoint, policy, findings, "checkpoint")
    if checkpoint is None:
        findings.cut = "without a signed checkpoint nobody knows what the log should be"
        return Integrity(None, 0, first, None, findings)
    # (2) Every tile, from the bundles up.
    walk = Walk(source, checkpoint.size, first, checkpoint.size if end is None else end, visit, findings, progress)
    root = walk.root()
    # (3) The root.
    if root is not None and root != checkpoint.root:
        findings.add("root_differs", None, "checkpoint")
    return Integrity(checkpoint, walk.entries, walk.whole_until, walk.last_time, findings)


def check_published(source: LogSource, policy: Policy, published: str | None, integrity: Integrity) -> None:
    """Add to a check of a whole log what is shown of it: a checkpoint that the quorum cosigned, and of its past.

    A log's own newest checkpoint is signed with every commit, and cosigned a little later.

    Args:
        source: the log that was checked.
        policy: with the quorum.
        published: the newest cosigned checkpoint; None = there is none.
        integrity: what was found so far.
    """
    findings, log = integrity.findings, integrity.checkpoint
    if published is None:
        if policy.quorum != NONE:
            findings.add("quorum_missing", None, _PUBLISHED, "none was ever published")
        return
    seen = _read_checkpoint(lambda: published, policy, findings, _PUBLISHED)
    if seen is None or log is None:
        return
    if seen.origin != log.origin or seen.size > log.size or _root_at(source, seen.size, log.size) != seen.root:
        findings.add("published_differs", None, _PUBLISHED)
    elif seen.size < log.size and policy.quorum != NONE:
        findings.lacks(f"entries from {seen.size} on are not cosigned by the quorum yet")


def _root_at(source: LogSource, size: int, of: int) -> bytes | None:
    """The root that the first `size` of so many entries have by the stored hashes, which were held against them."""
    try:
        return root_hash(size, hash_reader(source, of))
    except (EntryUnknown, ProofInvalid, LedgerCorrupt):
        return None


def _read_checkpoint(read: Callable[[], str], policy: Policy, findings: Findings, place: str) -> Checkpoint | None:
    try:
        note = Note.parse(read())
        checkpoint = Checkpoint.parse(note.text)
    except (ProofInvalid, LedgerCorrupt):
        findings.add("checkpoint_malformed", None, place)
        return None
    try:
        signers = policy.signers(note)
        policy.check_log(checkpoint, signers)
    except ProofInvalid:
        findings.add("checkpoint_unsigned", None, place)
        return None
    try:
        policy.check_quorum(signers)
    except ProofInvalid:
        findings.add("quorum_missing", None, place)
    return checkpoint
