"""A search as an auditor holds it: every hit is verified before it is given, whoever found it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from audit.errors import ProofInvalid
from audit.index_filter import Filter
from audit.index_terms import read_entry, terms_of
from audit.merkle import leaf_hash, verify_inclusion
from audit.note import Checkpoint, head_of
from audit.policy import Policy
from audit.proof import format_proof
from audit.search import Found, Hit

PAGE = 200  # hits fetched at once, at most: what a server gives

# Members of a filter that an entry shows by itself; the others may follow from the consent that it names.
_SHOWN = frozenset({"kind", "outcome", "code", "caller", "version"})

Ask = Callable[[str, int, int], Found]  # page token, count, size of the tree that proofs lead to (0 = the newest)


@dataclass
class Search:
    """Hits newest first, all under one checkpoint; iterate once. Made by `Auditor.search` or `Folder.search`.

    That hits belong to the log is proved; that none was left out is not: an export of the log proves that
    (docs/threat-model.md).

    Attributes:
        wanted: what must match, the subject as its tag.
        filter: the same in words, as it stands in the log.
        total: how many match in all.
        size: entries that were searched.
        checkpoint: what every hit's proof leads to.
        signed: whether a policy vouches for the checkpoint.
        token: where the next page begins, when the iteration is over; "" = there is none.
    """

    wanted: Filter
    filter: str
    total: int
    size: int
    checkpoint: str
    signed: bool
    token: str
    _ask: Ask
    _count: int | None
    _page: list[Hit] = field(default_factory=list)

    @classmethod
    def begin(
        cls, ask: Ask, wanted: Filter, text: Callable[[], str], policy: Policy | None, count: int | None, token: str
    ) -> "Search":
        """Fetch the first page.

        Args:
            ask: fetches a page.
            wanted: what must match.
            text: the filter in words, once a page came.
            policy: whose log is trusted; None = the checkpoint's signature is not looked at.
            count: give at most so many hits; None = all.
            token: of an earlier search's page.

        Raises:
            ProofInvalid: the checkpoint is not signed as the policy asks.
        """
        found = ask(token, min(count or PAGE, PAGE), 0)
        made = cls(
            wanted, text(), found.total, found.size, found.checkpoint, policy is not None, found.token, ask, count
        )
        if policy is not None:
            policy.verify(found.checkpoint)
        made._page = found.hits
        return made

    @property
    def head(self) -> Checkpoint:
        """The checkpoint's tree head."""
        return head_of(self.checkpoint)

    def proof(self, hit: Hit) -> str:
        """A hit's `.tlog-proof`."""
        return format_proof(hit.index, hit.proof, self.checkpoint)

    def __iter__(self) -> Iterator[Hit]:
        """Verified hits, fetched page by page.

        Raises:
            ProofInvalid: a hit is not in the tree, not of the filter, or not older than the one before.
        """
        head, before, left = self.head, self.size, self._count
        while True:
            for hit in self._page:
                self._check(hit, head, before)
                before = hit.index
                yield hit
            left = None if left is None else left - len(self._page)
            if not self.token or left == 0:
                return
            found = self._ask(self.token, min(left or PAGE, PAGE), head.size)
            if found.size != self.size or not found.hits:
                raise ProofInvalid("pages", public="the pages of the search do not belong together")
            self._page, self.token = found.hits, found.token

    def _check(self, hit: Hit, head: Checkpoint, before: int) -> None:
        verify_inclusion(leaf_hash(hit.body), hit.index, head.size, hit.proof, head.root)
        entry, _ = read_entry(hit.body)
        shown = set(terms_of(entry, None))
        if hit.index >= before or any(term not in shown for term in self.wanted.terms if term[0] in _SHOWN):
            raise ProofInvalid("hit", public=f"entry {hit.index} is no hit of this search, or out of order")
