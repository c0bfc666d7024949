"""`heixia demo`: the whole story in six acts."""


def demo() -> None:
    """Play the whole story in six acts, with real processes, keys, models and proofs."""
