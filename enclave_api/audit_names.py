"""Members of a search that the wire calls otherwise than entries do."""

WIRE = {"consent": "consent_id", "subject": "subject_tag"}
