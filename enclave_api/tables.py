"""Every floor's tables, so that whoever imports this has the whole schema on the ledger's metadata."""

import model_registry.tables
import sandbox.tables
from audit.schema import metadata

__all__ = ["metadata", "model_registry", "sandbox"]
