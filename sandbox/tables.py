"""Tables of the black box, on the ledger's metadata: projections are written in the ledger's transactions."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, String, Table

from audit.schema import metadata

# Clustered on (subject key, dataset): a call reads a subject's datasets in one range.
current = Table(
    "current",
    metadata,
    Column("subject_key", LargeBinary(32), nullable=False),
    Column("dataset", String, nullable=False),
    Column("version", Integer, nullable=False),  # number of the load that wrote it
    Column("event_at", BigInteger, nullable=False),  # the day the values describe, Unix milliseconds
    Column("known_at", BigInteger, nullable=False),  # when they were loaded, Unix milliseconds
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("subject_key", "dataset"),
    sqlite_with_rowid=False,
)

# Append-only: every record that ever was current.
history = Table(
    "history",
    metadata,
    Column("subject_key", LargeBinary(32), nullable=False),
    Column("dataset", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("event_at", BigInteger, nullable=False),
    Column("known_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("subject_key", "dataset", "version"),
    sqlite_with_rowid=False,
)

dataset = Table(
    "dataset",
    metadata,
    Column("name", String, primary_key=True),
    Column("state", String, nullable=False),  # published | suspended
    Column("layout_hash", String, nullable=False),
    Column("loads", Integer, nullable=False),
    Column("rows", Integer, nullable=False),  # of the last load
)

# A subject's random key, wrapped; destroying the row erases what is sealed under it.
subject_key = Table(
    "subject_key",
    metadata,
    Column("subject_tag", String(32), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

# Which entry erased a subject last: what was sealed under its tag before that is gone, also where it came back since.
erased_subject = Table(
    "erased_subject",
    metadata,
    Column("subject_tag", String(32), primary_key=True),
    Column("idx", BigInteger, nullable=False),
)

consent = Table(
    "consent",
    metadata,
    Column("consent_id", String(36), primary_key=True),
    Column("consent_hash", String(64), nullable=False),
    Column("authority", String, nullable=False),
    Column("institution", String, nullable=False),
    Column("products", String, nullable=False),  # JSON list
    Column("purpose", String, nullable=False),
    Column("subject_tag", String(32), nullable=False),
    Column("state", String, nullable=False),
    Column("not_before", BigInteger, nullable=False),  # Unix seconds
    Column("expires", BigInteger, nullable=False),  # Unix seconds
    Column("uses", Integer, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("granted_index", BigInteger, nullable=False),
    Column("frequency_unit", String),  # day | week | month of the UTC calendar; null = no bound but max_uses
    Column("frequency", Integer),  # uses in one such unit, at most
    Column("period", String),  # the unit of the last use; null = none yet, or no frequency
    Column("period_uses", Integer, nullable=False, default=0),  # uses in that unit
    Column("replaces", String(36)),  # the consent that this one ended
    Index("consent_by_subject", "subject_tag"),
)

# Consent authorities that lost their standing, and the entry from which on none of their consents may be used.
revoked_authority = Table(
    "revoked_authority",
    metadata,
    Column("authority", String, primary_key=True),
    Column("idx", BigInteger, nullable=False),
)

# Apart from `consent`: SQLite rewrites a whole row to count a use, and an artefact has kilobytes.
artefact = Table(
    "artefact",
    metadata,
    Column("consent_id", String(36), primary_key=True),
    Column("body", LargeBinary, nullable=False),  # the JWS, sealed under the subject's key
)

# The answer to a request id, found again by the input it was computed from; limit and salt are sealed under the
# subject's key.
call = Table(
    "call",
    metadata,
    Column("request_hash", String(64), primary_key=True),
    Column("request_digest", String(64), nullable=False),
    Column("input_hash", String(64), nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("subject_tag", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("call_by_input", "input_hash", "idx"),
    Index("call_by_subject", "subject_tag", "idx"),
)

# Gap-free number of an institution's decisions and refusals.
sequence = Table(
    "sequence",
    metadata,
    Column("institution", String, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

budget = Table(
    "budget",
    metadata,
    Column("subject_tag", String(32), nullable=False),
    Column("institution", String, nullable=False),
    Column("year", Integer, nullable=False),
    Column("bits_milli", BigInteger, nullable=False),
    PrimaryKeyConstraint("subject_tag", "institution", "year"),
)
