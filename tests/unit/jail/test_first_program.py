"""The zygote's own small program."""

from sandbox.jail import first_program


def test_it_loads_and_answers() -> None:
    """What the zygote runs once is admitted by the very code that judges strangers' models."""
    first_program.rehearse()
