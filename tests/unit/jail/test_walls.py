"""What can be said of the walls without going behind them; tests/integration/test_jail.py tries them."""

import pytest

from sandbox.jail import walls


def test_the_root_is_left_alone_without_a_mount_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that still shares its mounts must not empty the machine's root, whatever rights it has."""
    touched: list[object] = []
    monkeypatch.setattr(walls, "_mount", lambda *arguments: touched.append(arguments))
    with pytest.raises(OSError, match="no mount namespace"):
        walls._empty_root(walls.Origin(0, "clone: refused"))
    assert not touched


def test_a_wall_that_cannot_be_built_is_reported_with_the_reason() -> None:
    """A refusal by the kernel is a line in the report, in the kernel's words."""
    report: walls.WallReport = {}

    def refused() -> str:
        raise PermissionError(1, "Operation not permitted")

    walls._build(report, "a", refused)
    walls._build(report, "b", lambda: "built")
    assert report == {"a": {"on": False, "why": "Operation not permitted"}, "b": {"on": True, "why": "built"}}


def test_root_outside_is_reported() -> None:
    """A user namespace that hides root is not taken for an unprivileged user."""
    with pytest.raises(OSError, match="root"):
        walls._not_root(0)
    assert "1000" in walls._not_root(1000)
