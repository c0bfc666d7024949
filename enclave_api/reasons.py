"""Why something was stopped or resumed: the codes that may stand in the log.

A closed list: whatever stands in the log stays there, and free text would carry names and numbers into it.
"""

REASONS = (
    "subject-request", "steward-decision", "bank-decision", "operator-decision", "authority-decision", "data-error",
    "model-error", "legal-order", "security", "maintenance",
)  # fmt: skip
HELP = f"Why, for the log: {', '.join(REASONS)}."
