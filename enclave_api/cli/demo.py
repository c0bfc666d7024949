"""`heixia demo`: the whole story in six acts, with real processes, keys, models, walls and proofs.

Every number shown is taken from the run. Nothing is simulated but the hardware's evidence, and that is said.
"""

import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from audit.policy import Policy
    from audit.receipt import Receipt
    from enclave_api.cli.example import Example
    from enclave_api.cli.room import Room
    from model_registry.bundle import SealedBundle
    from sandbox.vault.synthetic import World

PRODUCT = "zhongyuan/quick-loan"


def demo(
    companies: Annotated[int, typer.Option(help="Made-up companies in the city's data.", min=60, max=5000)] = 300,
    callers: Annotated[int, typer.Option(help="How many of them ask for a limit.", min=10, max=1000)] = 60,
) -> None:
    """Play the whole story in six acts, with real processes, keys, models and proofs."""
    from rich.console import Console

    from enclave_api.cli.common import plain_errors
    from enclave_api.cli.room import NotServing, Room

    console = Console(width=100)
    folder = Path(tempfile.mkdtemp(prefix="heixia-demo-"))
    with plain_errors():
        play = Play(console, folder, Room.make(folder), companies, min(callers, companies - 20))
        try:
            play.run()
        except NotServing as error:  # a machine without some wall, above all: the server's own words say what to do
            console.print(str(error), markup=False, highlight=False)
            raise typer.Exit(1) from None
        finally:
            play.room.stop()
        if play.broken:
            raise typer.Exit(1)


@dataclass
class Play:
    """The play: its stage, and what the acts hand on to each other."""

    console: "Console"
    folder: Path
    room: "Room"
    companies: int
    callers: int
    world: "World" = field(init=False)
    example: "Example" = field(init=False)
    bundle: "SealedBundle" = field(init=False)
    receipt: "Receipt" = field(init=False)
    used_consent: str = field(init=False)
    stopped: str = field(init=False)
    broken: int = 0

    def run(self) -> None:
        """All six acts."""
        began = time.monotonic()
        self.console.print("\n[bold]Heixia 黑匣[/] — a bank's secret model, a city's secret data, one number leaves\n")
        acts = (
            ("The room opens", "开箱", self.the_room_opens),
            ("The city brings its data", "政务数据入库", self.the_city_loads),
            ("The bank seals its model", "银行封存模型", self.the_bank_seals),
            ("Companies consent and ask", "企业授权与申请", self.companies_ask),
            ("What must not work", "攻击与拒绝", self.thieves_try),
            ("The auditor verifies", "审计与验证", self.the_auditor_verifies),
        )
        for number, (title, chinese, act) in enumerate(acts, start=1):
            self.console.rule(f"[bold]Act {number}[/]  {title}  {chinese}", align="left")
            act()
        self._who_learned_what()
        self._go_on(time.monotonic() - began)

    def the_room_opens(self) -> None:
        """Act 1: the server starts; the bank checks its evidence, and a careless client is protected from itself."""
        from enclave_api.attestation.policy import Policy
        from enclave_api.cli.room import ACCEPT

        with self._working("starting the enclave"):
            self.room.start()
        self._say(f"A gRPC server with mutual TLS answers on {self.room.server}; its home is {self.room.home.path}")
        strict = self.room.alice.verify_enclave(Policy())
        refused = next(step for step in strict.steps if step.outcome == "failed")
        self._say(f"Alice of Zhongyuan Bank asks for evidence. Her client [red]refuses[/]: {refused.reason}")
        verdict = self.room.alice.verify_enclave(ACCEPT)
        walls = verdict.claims["walls"]
        up = sum(1 for wall in walls.values() if wall["on"])
        self._say(f"This is a demonstration: she accepts it by hand. {up} of {len(walls)} walls stand around a model.")
        self._say(f"She now holds the enclave's post-quantum key {verdict.claims['hpke_key_id']} (MLKEM768-X25519).")

    def the_city_loads(self) -> None:
        """Act 2: every department publishes and loads its own data, encrypted; the database shows nothing."""
        from rich.progress import Progress

        from sandbox.vault.synthetic import generate

        self.world = generate(self.room.catalog, self.companies, 7)
        catalog = self.room.catalog
        with Progress(console=self.console, transient=True) as bar:
            task = bar.add_task("departments load their data", total=len(catalog.datasets))
            for name in catalog.datasets:
                self.room.load(self.world, [name])
                bar.advance(task)
        count = len(catalog.departments)
        self._say(
            f"{count} departments published {len(catalog.datasets)} datasets with {len(catalog.fields):,} fields."
        )
        with closing(sqlite3.connect(self.room.home.database)) as database:
            rows, body = database.execute("SELECT count(*), min(body) FROM current").fetchone()
        self._say(f"{rows:,} records about {self.companies} made-up companies. One of them, as its operator sees it:")
        self._say(f"  [dim]{body[:28].hex(' ')} …[/]")

    def the_bank_seals(self) -> None:
        """Act 3: the bank trains on its own data, seals, is inspected, and needs a second person."""
        from enclave_api.cli.example import train_lightgbm
        from enclave_api.cli.room import ACCEPT
        from enclave_api.client.connection import Refused
        from sandbox.vault.synthetic import generate

        with self._working("the bank trains its model"):
            made = train_lightgbm(generate(self.room.catalog, 1500, 1), PRODUCT)
        self.example = made
        size, trees = len(made.model.onnx) / 1024, 300
        fields = len(made.model.fields)
        self._say(
            f"The bank trained {trees} trees over {fields} fields; as ONNX {size:.0f} KiB. It signs fields and levels,"
        )
        self._say("adds its own rules, encrypts everything, and seals the key to the enclave alone.")
        recipient = self.room.alice.verify_enclave(ACCEPT).recipient()
        bundle = self.room.alice.seal(made.model, made.offer, recipient, made.samples())
        self.bundle = bundle
        began = time.perf_counter()
        self.version = self.room.alice.submit(bundle).version
        self._say(f"Inspected, run and compared with the bank's own limits behind the walls in {_ms(began)}: admitted.")
        try:
            self.room.alice.approve(self.version)
        except Refused as refusal:
            self._say(
                f"Alice tries to approve her own work: [red]{refusal.code}[/]. Bob looks, approves and promotes it."
            )
        self.room.bob.approve(self.version)
        self.room.bob.promote(self.version)
        self._say(f"[green]{self.version}[/] is champion.")

    def companies_ask(self) -> None:
        """Act 4: companies consent and get limits; the bank would have computed exactly these."""
        from rich.progress import track

        from enclave_api.cli.room import datasets_of

        names = datasets_of([f.name for f in self.example.model.fields])
        times, limits = [], []
        subjects = self.world.subjects[: self.callers]
        for subject in track(subjects, "companies consent and ask", console=self.console, transient=True):
            consent_id = self.room.consent(subject, PRODUCT, names)
            began = time.perf_counter()
            limit = self.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
            times.append(time.perf_counter() - began)
            limits.append(limit.yuan)
        self.receipt, self.used_consent = limit.receipt, consent_id
        times.sort()
        self.median_ms = times[len(times) // 2] * 1000
        own = self._own_limits()
        agree = sum(a == b for a, b in zip(limits, own, strict=True))
        median = f"median {self.median_ms:.0f} ms a call, transport and the 50 ms beat included"
        self._say(f"{self.callers} companies asked; {median}. The beat makes time tell nothing;")
        self._say("the service that inspired this one takes 5–10 s. All that ever comes out:")
        self._chart(limits)
        text = f"The bank computes the limits of the same rows at home: {agree} of {self.callers} agree."
        self._claim(agree == self.callers, text)

    def _own_limits(self) -> list[int]:
        """What the bank's own software gives for the same rows: model, rules and grid, outside the enclave."""
        from enclave_api.cli.example import rows_of
        from enclave_api.client.bank import own_limits, vector_of

        fields = self.example.model.fields
        rows = rows_of(self.world, [f.name for f in fields])[: self.callers]
        scores = self.example.native([vector_of(fields, row) for row in rows])
        return list(map(own_limits(self.example.offer, fields), rows, scores))

    def thieves_try(self) -> None:
        """Act 5: what must not work does not."""
        from enclave_api.client.connection import Refused

        stopped, tries = 0, self._thefts()
        for what, attempt in tries:
            try:
                attempt()
                self._claim(False, f"{what:<42} [bold red]WORKED[/]")
            except Refused as refusal:
                stopped += 1
                self._say(f"{what:<42} [red]{refusal.code}[/]")
        self.stopped = f"{stopped} of {len(tries)}"

    def _thefts(self) -> "list[tuple[str, Callable[[], object]]]":
        from enclave_api.cli.room import ALICE, PORTAL, datasets_of
        from enclave_api.client.application import Application
        from enclave_api.client.auditor import Auditor

        names = datasets_of([f.name for f in self.example.model.fields])
        mine, other = self.world.subjects[self.callers : self.callers + 2]
        consent_id = self.room.consent(mine, PRODUCT, names, uses=5)
        flipped = bytearray(self.bundle.ciphertext)
        flipped[len(flipped) // 2] ^= 1
        ask = self.room.portal.request_limit
        revoked = self.room.consent(mine, PRODUCT, names)
        self.room.office.revoke(revoked, "subject-request")
        narrow = self.room.consent(mine, PRODUCT, ["tax.declaration"])
        spy = self.room.client(Auditor, PORTAL)
        banker, last = self.room.client(Application, ALICE), self.world.subjects[self.callers - 1]
        changed = replace(self.bundle, ciphertext=bytes(flipped))
        nobody = str(uuid.uuid4())
        return [
            ("ask with a consent nobody gave", lambda: ask(subject=mine, product=PRODUCT, consent_id=nobody)),
            ("ask for another company", lambda: ask(subject=other, product=PRODUCT, consent_id=consent_id)),
            ("use a consent twice", lambda: ask(subject=last, product=PRODUCT, consent_id=self.used_consent)),
            ("use a revoked consent", lambda: ask(subject=mine, product=PRODUCT, consent_id=revoked)),
            ("read fields that were not consented to", lambda: ask(subject=mine, product=PRODUCT, consent_id=narrow)),
            ("change one bit of a sealed model", lambda: self.room.alice.submit(changed)),
            ("the application reads the audit log", lambda: list(spy.entries(0))),
            (
                "the bank asks for a limit itself",
                lambda: banker.request_limit(subject=mine, product=PRODUCT, consent_id=consent_id),
            ),
        ]

    def the_auditor_verifies(self) -> None:
        """Act 6: a power cut, then the whole log and a receipt are verified; a forger is caught."""
        from audit.merkle import leaf_hash, tree_hash, verify_consistency
        from audit.policy import Policy

        policy = Policy.parse(self.room.home.policy.read_bytes())
        before = policy.verify(self.room.auditor.checkpoint())
        self.room.kill()
        with self._working("the power fails (SIGKILL); the enclave starts again"):
            self.room.start()
        proof, checkpoint = self.room.auditor.consistency(before.size)
        now = policy.verify(checkpoint)
        verify_consistency(before.size, now.size, before.root, now.root, proof)
        grown = f"the log of {now.size} entries provably continues the one of {before.size}"
        self._say(f"The power failed. Started again, {grown}.")
        began = time.perf_counter()
        bodies = [entry.body for entry in self.room.auditor.entries(0, now.size)]
        same = tree_hash([leaf_hash(body) for body in bodies]) == now.root
        self._claim(same, f"The auditor fetches every entry and re-derives the signed root: {_ms(began)}.")
        forged = [body.replace(b'"seq":7}', b'"seq":8}').replace(b'"seq":7,', b'"seq":8,') for body in bodies]
        caught = forged != bodies and tree_hash([leaf_hash(body) for body in forged]) != now.root
        self._claim(caught, "A forger who changes one digit of one entry is caught.")
        self._check_export(policy)
        self._check_receipt(policy)
        self._ask_for_a_company()
        whole = b"".join(bodies) + self.room.log.read_bytes()
        found = sum(subject[5:].encode() in whole for subject in self.world.subjects)
        self._claim(found == 0, f"Company codes found in the log and in what the server printed: {found}.")

    def _check_export(self, policy: "Policy") -> None:
        """Two verdicts on an export, which needs no server; and on one in which somebody changed a byte."""
        from enclave_api.fsck import check_folder

        folder = self.folder / "log"
        self.room.auditor.export(folder, policy)
        began = time.perf_counter()
        report = check_folder(folder, policy, lambda *_: None)
        sound = f"integrity and completeness are {' and '.join(verdict.value for verdict in report.verdicts)}"
        said = f"Taken away as a folder and checked offline, {sound}: {report.integrity.entries} entries, {_ms(began)}."
        self._claim(report.exit_code == 0, said)
        bundle = next((folder / "tile" / "entries").rglob("*.p/*"))
        bundle.chmod(0o600)
        bundle.write_bytes(bundle.read_bytes().replace(b'"use":1', b'"use":2', 1))
        found = check_folder(folder, policy, lambda *_: None).first_bad
        self._claim(
            found is not None, f"Somebody makes a first use a second one in that folder: entry {found} is named."
        )

    def _ask_for_a_company(self) -> None:
        from enclave_api.client.subject import Subject
        from enclave_api.identity import Principal, Role

        name = self.world.subjects[self.callers - 1]
        found = self.room.client(Subject, Principal(Role.SUBJECT, name)).uses(name)
        for use in found.uses:
            told = f"{use.institution}, {use.product}, data of {len(use.departments)} departments, {use.outcome}"
            self._say(f"A company asks who used its data: {told}, {use.bits_milli / 1000} bits, entry {use.index}.")
        self._claim(found.total == 1, f"Uses of its data since the log began: {found.total}.")

    def _check_receipt(self, policy: "Policy") -> None:
        from audit.receipt import Opening, Receipt, verify_receipt

        path = self.folder / "receipt.json"
        path.write_text(self.receipt.dump())
        kept = Receipt.load(path.read_text())
        steps = verify_receipt(kept, policy)
        text = f"A company's receipt, checked offline: {sum(s.ok for s in steps)} of {len(steps)} steps hold."
        self._claim(all(step.ok for step in steps), text)
        if kept.opening is not None:
            lie = replace(kept, opening=Opening(kept.opening.salt, kept.opening.limit + 1_000_000))
            failed = [step.name for step in verify_receipt(lie, policy) if not step.ok]
            self._claim(bool(failed), f"The same receipt claiming a million more fails: [red]{', '.join(failed)}[/]")

    def _who_learned_what(self) -> None:
        from rich.table import Table

        table = Table(title="\nWho learned what", title_style="bold", title_justify="left")
        for column in ("who", "learned", "never saw"):
            table.add_column(column)
        decisions = f"{self.callers} decisions, each with its consent, version and proof"
        for line in (
            ("Zhongyuan Bank", "the limit of a company that brings one", "a single field of any company"),
            ("a department", "that its data were loaded; it can stop them at once", "the model, the rules, the limits"),
            ("the application", f"one of {len(self.example.offer.levels)} levels a company", "score, fields, reason"),
            ("a company", "its limit, and a receipt that proves it", "the model"),
            ("the auditor", decisions, "limits, outcomes, names, field values"),
            ("the operator (with a TEE)", "sizes and times", "models, data, limits"),
        ):
            table.add_row(*line)
        self.console.print(table)

    def _go_on(self, seconds: float) -> None:
        home, stopped = self.room.home.path, self.stopped
        self.console.print(
            f"\n{stopped} attempts to cheat were refused. The play took {seconds:.0f} s. Go on by hand:\n"
        )
        self.console.print(f"  .venv/bin/heixia serve --home {home} &      (stop it with: kill %1)", soft_wrap=True)
        self.console.print(
            f"  .venv/bin/heixia audit log --as {home}/clients/auditor-audit-office\n"
            f"  .venv/bin/heixia verify {self.folder}/receipt.json --policy {self.room.home.policy}\n\n"
            "README.md has the ten-minute tour; the folder above may be deleted at any time.",
            soft_wrap=True,
        )

    def _claim(self, holds: bool, text: str) -> None:
        """Says what was found; a claim that does not hold ends the play with exit code 1."""
        self.broken += not holds
        self._say(f"{'[green]✔[/]' if holds else '[bold red]✘ THIS MUST NOT BE[/]'} {text}")

    def _say(self, text: str) -> None:
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def _working(self, text: str) -> "Status":
        return self.console.status(text)

    def _chart(self, limits: list[int]) -> None:
        counts = Counter(limits)
        most = max(counts.values())
        for level in self.example.offer.levels:
            bar = "█" * round(40 * counts[level] / most)
            self._say(
                f"  {level:>10,} yuan  {bar} {counts[level] or ''}"
                if level
                else f"  {'no offer':>15}  {bar} {counts[0] or ''}"
            )


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"
