"""For application flows: ask for a limit. For anybody: verify a receipt, offline."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.common import (
    DEFAULT_SERVER,
    AsOption,
    JsonOption,
    ServerOption,
    exported,
    fail,
    plain_errors,
    show,
    table,
    unused,
)

if TYPE_CHECKING:
    from audit.receipt import Receipt, Step


def request(
    as_: AsOption,
    subject: Annotated[str, typer.Argument(help="uscc:<18 characters>")],
    product: Annotated[str, typer.Argument(help="<institution>/<product>")],
    consent_id: Annotated[str, typer.Argument(help="UUID of the registered consent.")],
    request_id: Annotated[str | None, typer.Option(help="UUID; repeating one repeats its answer at no cost.")] = None,
    receipt: Annotated[Path | None, typer.Option(help="Keep the receipt in this file.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Ask for a company's pre-approved limit."""
    from audit.event import format_time
    from enclave_api.client.application import Application

    # Named before the call: whoever gets no answer repeats the call with it, at no cost.
    request_id = request_id or str(uuid.uuid4())
    with plain_errors(hint=f"no answer? repeat with --request-id {request_id}"):
        # The call spends a use: what can fail does so before it.
        unused(receipt)
        with Application.connect(server, as_) as client:
            limit = client.request_limit(subject=subject, product=product, consent_id=consent_id, request_id=request_id)
        facts: dict[str, object] = {"limit_yuan": limit.yuan, "valid_until": format_time(limit.valid_until)}
        facts["request_id"] = request_id
        if receipt:
            receipt.write_text(limit.receipt.dump())
            facts["receipt"] = str(receipt)
        show(facts, as_json)


def _same_evidence(receipt: "Receipt", file: Path) -> "Step":
    from audit.errors import EventInvalid
    from audit.event import decode
    from audit.kinds import Decision
    from audit.receipt import Step
    from enclave_api.attestation.claims import read_claims
    from enclave_api.attestation.evidence import evidence_hash
    from enclave_api.attestation.saved import load_saved

    saved = load_saved(file).evidence()
    claims = read_claims(saved.claims)
    try:
        event, _ = decode(receipt.entry)
    except EventInvalid:
        event = None
    named = (event.evidence_format, event.evidence_hash) if isinstance(event, Decision) else ("", "")
    same = bool(claims) and named == (saved.format, evidence_hash(claims))
    told = "judge that file with `heixia bank verify-evidence`" if same else "of another enclave, start or key"
    return Step("evidence is the saved one", same, told)


def verify(
    receipt: Annotated[Path, typer.Argument(help="A receipt kept by `heixia request --receipt`.")],
    policy: Annotated[
        Path,
        typer.Option(envvar="HEIXIA_POLICY", help="tlog-policy file: whose log you trust (HOME/public/log.policy)."),
    ],
    log: Annotated[
        str | None,
        typer.Option(help="The log, a folder or its URL: prove the entry under its checkpoint of today."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="With --log: keep the receipt as proved there in this file.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(help="Evidence saved by `heixia bank evidence --save`: was the answer this enclave's?"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a receipt offline: claims, limit, place in the log, who signed the log.

    An answer does not wait for witnesses, so its receipt has the log's signature alone. With --log it is proved under
    the log's checkpoint of today, which they have cosigned; so does the same request, repeated.
    """
    from audit.http_source import HttpSource
    from audit.policy import Policy
    from audit.receipt import QUORUM_STEP, Receipt, Step, verify_receipt
    from audit.reprove import prove_again
    from audit.source import FolderSource, LogSource

    if keep and not log:
        raise typer.BadParameter("--keep needs --log")
    with plain_errors():
        unused(keep)
        try:
            kept, trust = Receipt.load(receipt.read_text()), Policy.parse(policy.read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            fail("file_unusable", f"cannot read {error.filename if isinstance(error, OSError) else receipt}")
        steps = list[Step]()
        if log:
            source: LogSource = HttpSource(log) if "://" in log else FolderSource(exported(Path(log)))
            kept = prove_again(kept, source, source.checkpoint())
            steps = [Step("log goes on from the receipt's tree", True, f"proved by {log}")]
        steps += verify_receipt(kept, trust)
        if evidence:
            steps.append(_same_evidence(kept, evidence))
        table(("step", "ok", "detail"), [(s.name, s.ok, s.detail) for s in steps], as_json)
        if wrong := [step.name for step in steps if not step.ok]:
            early = wrong == [QUORUM_STEP] and not log
            hint = "; it may only be early: verify with --log, or repeat the request under its request id"
            fail("proof_invalid", f"The receipt does NOT verify{hint if early else ''}")
        if keep:
            keep.write_text(kept.dump())
