"""Every error of every floor has its line in the catalogue, and no line is left over."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from grpc import StatusCode

import audit
import enclave_api
import model_registry
import sandbox
from audit.errors import CallerError, HeixiaError, OwnerError, ServiceError
from enclave_api.error_catalog import CATALOG, INTERNAL, line_of, public_text


def _subclasses(kind: type[HeixiaError]) -> Iterator[type[HeixiaError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def concrete() -> dict[str, type[HeixiaError]]:
    """Every error class of the four packages that has a code of its own, by code."""
    for package in (audit, enclave_api, model_registry, sandbox):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    packages = ("audit", "enclave_api", "model_registry", "sandbox")
    own = [e for e in _subclasses(HeixiaError) if "code" in vars(e) and e.__module__.split(".")[0] in packages]
    found: dict[str, type[HeixiaError]] = {}
    for error in own:
        assert error.code not in found, f"{error} and {found[error.code]} share a code"
        found[error.code] = error
    return found


CONCRETE = concrete()
# Raised and caught inside sandbox/jail (its docstring); it must never reach a door.
INSIDE = {"jail_worker_misbehaved"}


def test_every_error_has_a_line() -> None:
    """Each class with its own code stands in the catalogue; a new one without a line fails here."""
    assert CONCRETE.keys() - CATALOG.keys() - INSIDE == set()
    assert len(CONCRETE) > 50


def test_no_line_is_left_over() -> None:
    """Each line but `internal` belongs to a class."""
    assert CATALOG.keys() - CONCRETE.keys() == {"internal"}


def test_every_class_that_is_raised_has_a_code() -> None:
    """A public class without children carries a code, its own or an ancestor's; none is `internal` by oversight."""
    leaves = [e for e in _subclasses(HeixiaError) if not e.__subclasses__() and not e.__name__.startswith("_")]
    ours = [e for e in leaves if e.__module__.split(".")[0] in ("audit", "enclave_api", "model_registry", "sandbox")]
    # The client's Refused has the code that the wire says.
    assert [e for e in ours if e.code == "internal" and e.__name__ != "Refused"] == []


@pytest.mark.parametrize("code", sorted(CATALOG))
def test_codes_texts_and_statuses_are_fit_for_the_wire(code: str) -> None:
    """Codes are lower snake case, texts a sentence that says what to do, statuses never OK or UNKNOWN."""
    line = CATALOG[code]
    assert re.fullmatch(r"[a-z][a-z_]{2,40}", code)
    assert line.status not in (StatusCode.OK, StatusCode.UNKNOWN, StatusCode.CANCELLED)
    assert line.text[0].isupper()
    assert 10 < len(line.text) < 160
    assert line.text.isascii()


@pytest.mark.parametrize("code", sorted(CONCRETE.keys() - INSIDE))
def test_the_status_says_whose_fault_it_is(code: str) -> None:
    """A caller's or owner's error is never UNAVAILABLE or INTERNAL; what may be repeated is never INVALID_ARGUMENT."""
    status, error = CATALOG[code].status, CONCRETE[code]
    if issubclass(error, (CallerError, OwnerError)):
        assert status not in (StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS)
    if issubclass(error, ServiceError) and error.retryable:
        assert status in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)


def test_the_detail_stays_at_home() -> None:
    """What goes out is the catalogue's text and what the error marks as public, never its detail."""

    class Unlisted(CallerError):
        """An error that somebody forgot to list."""

        code = "nowhere"

    assert line_of(Unlisted("hush-hush")) == INTERNAL
    assert "hush-hush" not in public_text(Unlisted("hush-hush"))
    for error in CONCRETE.values():
        if error.__init__ is HeixiaError.__init__:
            assert "hush-hush" not in public_text(error("hush-hush"))
            assert public_text(error("hush-hush", public="seen")).endswith(": seen")
