"""For operators: make a home, issue development certificates, serve, make up data."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from enclave_api.cli.common import (
    DEFAULT_SERVER,
    AcceptWeakOption,
    HomeOption,
    JsonOption,
    passphrase,
    plain_errors,
    show,
)

SIMULATED_NOTICE = """\
================================================================================
  SIMULATED EVIDENCE. No hardware vouches for this enclave: whoever operates
  this machine can read everything. Fit for development and demonstration only.
  模拟证明：没有可信硬件为本环境背书，仅供开发与演示。
================================================================================"""

WEAK_NOTICE = """\
================================================================================
  WEAK ISOLATION. Walls are missing: a hostile model can reach more here than
  the threat model says. Evidence and receipts say so; banks' clients refuse.
  隔离不完整：缺少隔离墙，证明与凭证均如实标注，银行客户端默认拒绝。
================================================================================"""

WARM_NOTICE = """\
================================================================================
  WARM ISOLATION. A process serves many calls: a hostile model can carry data of
  one company into another's answer. Evidence, receipts say so; clients refuse.
  进程复用：一个进程服务多次调用，证明与凭证均如实标注，客户端默认拒绝。
================================================================================"""


def version() -> None:
    """Print the version."""
    from enclave_api import __version__

    print(__version__)  # noqa: T201


def init(
    home: HomeOption,
    host: Annotated[str, typer.Option(help="Name or address in the server's certificate.")] = "localhost",
    catalog: Annotated[Path | None, typer.Option(help="Catalogue to start with; default: the built-in one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a home: root secret, database, development CA, a certificate for each role.

    Set HEIXIA_PASSPHRASE to wrap the root secret.
    """
    from enclave_api.app import utc_now
    from enclave_api.home import create_home
    from sandbox.vault.catalog import load_catalog

    with plain_errors():
        known = load_catalog(catalog)
        made = create_home(home, passphrase=passphrase(), host=host, now=utc_now(), catalog=catalog)
        facts = {
            "home": str(made.path),
            "root secret": "wrapped with your passphrase" if passphrase() else "IN THE CLEAR (no HEIXIA_PASSPHRASE)",
            "departments": len(known.departments),
            "fields": len(known.fields),
            "clients": ", ".join(sorted(path.name for path in (home / "clients").iterdir())),
            "next": f"heixia serve --home {home}",
        }
        print(SIMULATED_NOTICE, file=sys.stderr)  # noqa: T201
        show(facts, as_json)


def serve(
    home: HomeOption,
    listen: Annotated[str, typer.Option(help="HOST:PORT to answer gRPC calls on; port 0 = any free.")] = DEFAULT_SERVER,
    metrics: Annotated[str, typer.Option(help="HOST:PORT for Prometheus metrics, or `off`.")] = "127.0.0.1:9464",
    log_listen: Annotated[
        str, typer.Option(help="HOST:PORT to show the log on over HTTP (C2SP tlog-tiles) to anybody, or `off`.")
    ] = "127.0.0.1:9465",
    reflection: Annotated[bool, typer.Option("--reflection", help="Serve gRPC reflection to operators.")] = False,
    step_metrics: Annotated[
        bool,
        typer.Option(
            "--step-metrics", help="Time each step of a decision: for measuring alone, it undoes the release quantum."
        ),
    ] = False,
    accept_weak_isolation: AcceptWeakOption = False,
    anchor: Annotated[
        Path | None,
        typer.Option(help="Folder for the newest checkpoint, best on another machine; default: HOME/anchor."),
    ] = None,
    accept_rollback: Annotated[
        bool,
        typer.Option(
            "--accept-rollback",
            help="Go on though the log is not its anchor's; leaves an entry. After a real loss alone.",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve until SIGTERM or Ctrl-C; calls in flight are finished first."""
    import asyncio

    from enclave_api import app
    from enclave_api.attestation.evidence import SIMULATED, EnclaveFacts
    from enclave_api.home import Home
    from enclave_api.logs import LEVELS, set_up_logs
    from enclave_api.service import ServeOptions
    from sandbox.jail.required import explain_missing
    from sandbox.jail.settings import WARM

    if log_level not in LEVELS:
        raise typer.BadParameter(f"--log-level must be one of {', '.join(LEVELS)}")
    set_up_logs(log_level)
    # The ledger's thread shares the interpreter with the event loop; at the default 5 ms each commit would wait for it.
    sys.setswitchinterval(0.0005)
    options = ServeOptions(
        listen,
        None if metrics == "off" else metrics,
        reflection,
        passphrase(),
        step_metrics,
        accept_weak_isolation,
        anchor,
        accept_rollback,
        None if log_listen == "off" else log_listen,
    )

    def ready(port: int, facts: EnclaveFacts, log_url: str | None) -> None:
        if facts.format == SIMULATED:
            print(SIMULATED_NOTICE, file=sys.stderr)  # noqa: T201
        if lacking := explain_missing(facts.walls):
            print(f"{WEAK_NOTICE}{lacking}", file=sys.stderr)  # noqa: T201
        if facts.mode == WARM:
            print(WARM_NOTICE, file=sys.stderr)  # noqa: T201
        print(f"serving on {listen.rpartition(':')[0]}:{port}", flush=True)  # noqa: T201
        if log_url:
            print(f"log at {log_url}", flush=True)  # noqa: T201

    with plain_errors():
        asyncio.run(app.serve(Home(home), options, ready))


def cert(
    home: HomeOption,
    role: Annotated[str, typer.Argument(help="institution, application, authority, steward, auditor, operator.")],
    organisation: Annotated[str, typer.Argument(help="Bank, department, office: a-z, 0-9, - and _.")],
    person: Annotated[str, typer.Argument(help="Person, where one matters (banks: four eyes).")] = "",
    as_json: JsonOption = False,
) -> None:
    """Issue a development certificate; to banks and authorities a signing key too.

    The server trusts that key from its next start on.
    """
    from enclave_api.app import utc_now
    from enclave_api.errors import Unauthenticated
    from enclave_api.home import Home, issue_client
    from enclave_api.identity import Role, parse_uri

    with plain_errors():
        made = Home(home)
        domain = made.settings().trust_domain
        path = "/".join(part for part in (role, organisation, person) if part)
        try:
            principal = parse_uri(f"spiffe://{domain}/{path}", domain)
        except Unauthenticated:
            raise typer.BadParameter("no such role, or a malformed organisation or person") from None
        if principal.role is Role.SUBJECT:  # its name would stand in a file name
            raise typer.BadParameter("subjects' certificates come from the city's PKI")
        facts = {"credentials": str(issue_client(made, principal, utc_now()))}
        if principal.role in (Role.INSTITUTION, Role.AUTHORITY):
            facts["next"] = "restart `heixia serve`: its signing key is trusted from the next start on"
        show(facts, as_json)


def data(
    out: Annotated[Path, typer.Argument(help="Folder to write one file a dataset into.")],
    companies: Annotated[int, typer.Option(help="How many companies.", min=1, max=200_000)] = 500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same companies.")] = 7,
    form: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    catalog: Annotated[Path | None, typer.Option(help="Catalogue; default: the built-in one.")] = None,
) -> None:
    """Make up companies: one table for each dataset, to load with `heixia steward load`."""
    from rich.progress import track

    from enclave_api.errors import FolderNotEmpty
    from sandbox.vault.catalog import load_catalog
    from sandbox.vault.synthetic import generate

    with plain_errors():
        if form not in ("csv", "parquet"):
            raise typer.BadParameter("--format must be csv or parquet")
        world = generate(load_catalog(catalog), companies, seed)
        if out.exists() and any(out.iterdir()):
            raise FolderNotEmpty("data", public=f"{out} is not empty")
        out.mkdir(parents=True, exist_ok=True)
        for name in track(list(world.catalog.datasets), description="making up data", disable=not sys.stderr.isatty()):
            world.write(out, name, form)
        (out / "subjects.txt").write_text("\n".join(world.subjects) + "\n")
        show({"folder": str(out), "datasets": len(world.catalog.datasets), "companies": companies}, False)
