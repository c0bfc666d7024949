"""`heixia`: the command line. Every command says what it does with --help; most speak --json."""

import io
import sys
from collections.abc import Mapping

from enclave_api.cli.lazy import LazyGroup, Part, plain_app

# (name, module, attribute, the first sentence of its own help)
_TABLE = (
    ("init", "operate", "init", "Make a home: root secret, database, development CA, a certificate for each role."),
    ("serve", "operate", "serve", "Serve until SIGTERM or Ctrl-C; calls in flight are finished first."),
    ("cert", "operate", "cert", "Issue a development certificate; to banks and authorities a signing key too."),
    ("data", "operate", "data", "Make up companies: one table for each dataset, to load with `heixia steward load`."),
    ("version", "operate", "version", "Print the version."),
    ("bank", "bank", "app", "Banks: verify the enclave, seal and version models."),
    ("steward", "steward", "app", "Department stewards: describe, load and stop data."),
    ("consent", "consent", "app", "Consent authorities: grant, show, pause, resume, revoke."),
    (
        "subject",
        "subject",
        "app",
        "Companies, and authorities for them: who used data, consents, receipts, erasure.",
    ),
    ("request", "request", "request", "Ask for a company's pre-approved limit."),
    ("verify", "request", "verify", "Verify a receipt offline: claims, limit, place in the log, who signed the log."),
    ("audit", "audit", "app", "Auditors: read and verify the log."),
    (
        "witness",
        "witness",
        "witness",
        "Cosign a log's checkpoints until SIGTERM or Ctrl-C: those that extend the last.",
    ),
    ("jail", "jail", "app", "Measure and try the walls of this machine; no server or home needed."),
    ("keys", "keys", "app", "Operators: the keys that banks seal to: list, rotate."),
    ("demo", "demo", "demo", "Play the whole story in six acts, with real processes, keys, models and proofs."),
)

PARTS: Mapping[str, Part] = {
    name: Part(f"enclave_api.cli.{module}", attribute, sentence) for name, module, attribute, sentence in _TABLE
}


class _Heixia(LazyGroup):
    parts = PARTS


app = plain_app(
    name="heixia",
    cls=_Heixia,
    help="Sealed room where banks' encrypted credit models meet consented government data; one number leaves.",
    no_args_is_help=True,
    context_settings={"max_content_width": 120},
)


@app.callback()
def _root() -> None:
    pass


def main() -> None:
    """Runs the command line. What a terminal's encoding cannot show is a `?` there, not a defect."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
