"""Tables of the registry, on the ledger's metadata: projections are written in the ledger's transactions."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from audit.schema import metadata

version = Table(
    "version",
    metadata,
    Column("version", String, primary_key=True),  # <institution>/<product>@<n>
    Column("institution", String, nullable=False),
    Column("product", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("manifest_jws", Text, nullable=False),
    Column("bundle_hash", String(64), nullable=False),
    Column("model_hash", String(64), nullable=False),  # this and the next as the log names them
    Column("rules_hash", String(64), nullable=False),
    Column("model_of", String),  # the version whose bundle holds the model; none = its own does
    Column("submitted_by", String, nullable=False),
    Column("submitted_at", BigInteger, nullable=False),  # Unix milliseconds
    Column("approved_by", String),
    Column(
        "reasons", LargeBinary, nullable=False
    ),  # sealed JSON list of {code, where, text}: it quotes model and rules
    UniqueConstraint("product", "number"),
    Index("version_by_institution", "institution", "submitted_at"),
    Index("version_by_model", "model_of"),
)

# Apart from `version`, so that listing versions never touches megabytes.
bundle = Table(
    "bundle",
    metadata,
    Column("version", String, ForeignKey("version.version"), primary_key=True),
    Column("ciphertext", LargeBinary, nullable=False),
)

# The ciphertext's key, sealed to the newest epoch. Apart from `bundle`: SQLite rewrites a whole row to change a part of
# it, and a rotation changes this of every bundle.
bundle_key = Table(
    "bundle_key",
    metadata,
    Column("version", String, ForeignKey("version.version"), primary_key=True),
    Column("key_id", String(16), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

# The HPKE keys that banks seal to; the newest epoch's is the one in the evidence.
key_epoch = Table(
    "key_epoch",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("key_id", String(16), nullable=False),
    Column("made_index", BigInteger, nullable=False),  # the entry that made it current
    Column("made_at", BigInteger, nullable=False),  # Unix milliseconds
    Column("destroy_at", BigInteger),  # Unix milliseconds; null = no newer one yet
    Column("destroyed_index", BigInteger),  # the entry that says it is gone
)

# Who holds a version back, as `role/organisation`: each lifts its own alone, and it runs when nobody does.
suspension = Table(
    "suspension",
    metadata,
    Column("version", String, ForeignKey("version.version"), primary_key=True),
    Column("by", String, primary_key=True),
)

# Who was champion since when: the newest line of a product is its champion.
promotion = Table(
    "promotion",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("product", String, nullable=False),
    Column("version", String, ForeignKey("version.version"), nullable=False),
    Column("at", BigInteger, nullable=False),  # Unix milliseconds
    Index("promotion_by_product", "product", "idx"),
)

# Every change of every version: the product's history, written with each entry about a version.
version_change = Table(
    "version_change",
    metadata,
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("product", String, nullable=False),
    Column("version", String, ForeignKey("version.version"), nullable=False),
    Column("kind", String, nullable=False),  # of the entry
    Column("by", String, nullable=False),  # who; empty = the inspection
    Column("why", String, nullable=False),  # the code of a refusal, the reason of a suspension
    Column("at", BigInteger, nullable=False),  # Unix milliseconds
    Index("version_change_by_product", "product", "idx"),
    Index("version_change_by_version", "version", "idx"),
)
