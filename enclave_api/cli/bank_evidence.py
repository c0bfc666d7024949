"""For banks: is this the right enclave? Evidence fetched and checked, or checked from files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enclave_api.cli.common import DEFAULT_SERVER, AsOption, JsonOption, ServerOption, plain_errors, unused

if TYPE_CHECKING:
    from datetime import datetime

    from enclave_api.attestation.hardware import Material
    from enclave_api.attestation.policy_file import PolicyFile
    from enclave_api.attestation.verify import Verdict

app = typer.Typer()

AcceptOption = Annotated[
    bool, typer.Option("--accept-simulated", help="Accept an enclave no hardware vouches for; instead of --policy.")
]
EvidencePolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        envvar="HEIXIA_EVIDENCE_POLICY",
        help="What you accept: a file as `heixia bank evidence-policy` writes it.",
    ),
]
AtOption = Annotated[
    str, typer.Option("--at", help="Judge as of this time, RFC 3339 (2026-02-15T12:00:00Z); default: now.")
]
CertsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--certs",
        help="File or folder of certificates, revocation lists, Intel's collateral (PEM, DER, JSON); may be repeated.",
    ),
]


@app.command()
def evidence(
    as_: AsOption,
    policy: EvidencePolicyOption = None,
    accept_simulated: AcceptOption = False,
    at: AtOption = "",
    certs: CertsOption = None,
    save: Annotated[Path | None, typer.Option(help="Keep the evidence in this file, whatever the verdict.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
) -> None:
    """Fetch fresh evidence and verify it step by step; exit 0 only when every required step passed.

    Example: heixia bank evidence --as clients/institution-zhongyuan-alice --policy evidence.toml --save evidence.json
    """
    from enclave_api.attestation.saved import Saved
    from enclave_api.attestation.verify import verify_evidence
    from enclave_api.client.bank import Bank

    with plain_errors():
        unused(save)
        chosen, time, material = chosen_policy(policy, accept_simulated), point_in_time(at), load_certs(certs)
        with Bank.connect(server, as_) as client:
            asked = client.ask_evidence()
        if save:
            save.write_text(Saved.of(asked.evidence, asked.nonce).dump())
        verdict = verify_evidence(
            asked.evidence, asked.nonce, chosen.policy, at=time, tls_key_hash=asked.tls_key_hash, material=material
        )
        show_verdict(verdict, as_json)
        verdict.require()


@app.command("verify-evidence")
def verify_file(
    file: Annotated[Path, typer.Argument(help="Evidence saved by `heixia bank evidence --save`, or a raw report.")],
    more: Annotated[
        list[Path] | None, typer.Argument(help="With --certs: further ones, as of `--certs folder/*.der`.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="heixia: saved evidence of any format; simulated: saved evidence of that format; sev-snp, tdx: a raw"
            " report or quote, binary or hex, or saved evidence of that format.",
        ),
    ] = "heixia",
    certs: CertsOption = None,
    policy: EvidencePolicyOption = None,
    accept_simulated: AcceptOption = False,
    at: AtOption = "",
    report_data: Annotated[
        str, typer.Option("--report-data", help="Raw reports: the 64 bytes of report data they must carry, hex.")
    ] = "",
    nonce: Annotated[str, typer.Option(help="Saved evidence: the 32 bytes that you asked with, hex.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Verify evidence from a file, offline; exit 0 only when every required step passed.

    A raw report of whatever origin is judged by the policy's table of its format; it makes no claims, so the steps
    about claims are skipped and not required. Nothing is fetched: give certificates and collateral with --certs.

    Example: heixia bank verify-evidence report.bin --format sev-snp --certs vcek.der ask_ark.pem
    --policy evidence.toml --at 2026-02-15T12:00:00Z
    """
    from enclave_api.attestation.evidence import NONCE_BYTES
    from enclave_api.attestation.offline import verify_offline
    from enclave_api.attestation.tsm import DATA_BYTES

    if form not in ("heixia", "simulated", "sev-snp", "tdx"):
        raise typer.BadParameter("--format must be heixia, simulated, sev-snp or tdx")
    if more and not certs:
        raise typer.BadParameter("one file of evidence at a time; certificates follow --certs")
    data, asked = _hex("--report-data", report_data, DATA_BYTES), _hex("--nonce", nonce, NONCE_BYTES)
    with plain_errors():
        chosen, time = chosen_policy(policy, accept_simulated), point_in_time(at)
        material = load_certs([*(certs or []), *(more or [])])
        verdict = verify_offline(file, form, chosen.policy, at=time, material=material, report_data=data, nonce=asked)
        show_verdict(verdict, as_json)
        verdict.require()


@app.command("evidence-policy")
def evidence_policy(
    out: Annotated[Path | None, typer.Argument(help="File to write; default: standard output.")] = None,
    accept_simulated: Annotated[
        bool, typer.Option("--accept-simulated", help="Write a policy that accepts an enclave no hardware vouches for.")
    ] = False,
) -> None:
    """Write a commented policy file to fill in; the code digest in it is this installation's.

    Example: heixia bank evidence-policy evidence.toml --accept-simulated
    """
    from enclave_api.attestation.policy_template import policy_template

    text = policy_template(accept_simulated=accept_simulated)
    if out is None:
        print(text, end="")  # noqa: T201
        return
    with plain_errors():
        unused(out)
        out.write_text(text)
        print(f"{out}: fill it in, then `heixia bank evidence --policy {out}`")  # noqa: T201


def chosen_policy(policy: Path | None, accept_simulated: bool) -> "PolicyFile":
    """What the options accept; the digest is "" where no file was given."""
    from enclave_api.attestation.policy import Policy, UnsafeAcceptSimulated
    from enclave_api.attestation.policy_file import PolicyFile, load_policy

    if policy and accept_simulated:
        raise typer.BadParameter("--accept-simulated stands in for a --policy; with one, write it into the file")
    if policy:
        return load_policy(policy)
    return PolicyFile(Policy(simulated=UnsafeAcceptSimulated() if accept_simulated else None), "")


def point_in_time(text: str) -> "datetime":
    """The time to judge by: RFC 3339, UTC where it names no zone; "" = now."""
    from datetime import UTC, datetime

    if not text:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # overflow: the first hours of the year 1, of another zone
        raise typer.BadParameter(f"--at {text!r} is no time; write 2026-02-15T12:00:00Z") from None


def load_certs(paths: list[Path] | None) -> "Material":
    """Certificates, lists and collateral from files; says on stderr which files of folders were of no use."""
    from enclave_api.attestation.material import load_material

    loaded = load_material(paths or [])
    if loaded.unused:
        names = ", ".join(path.name for path in loaded.unused[:10])
        typer.echo(f"not used (no certificate, list or collateral): {names}", err=True)
    return loaded.material


def show_verdict(verdict: "Verdict", as_json: bool) -> None:
    """Prints the steps as a checklist and then what was found; as JSON an object a step, and one for the verdict."""
    from enclave_api.cli.checklist import print_checklist, print_json

    (print_json if as_json else print_checklist)(verdict)


def _hex(option: str, text: str, length: int) -> bytes | None:
    if not text:
        return None
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != length:
        raise typer.BadParameter(f"{option} must be {length} bytes as hex")
    return raw
