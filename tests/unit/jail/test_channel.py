"""Framing between the server and walled processes."""

import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_registry.errors import Reason
from sandbox.errors import WorkerMisbehaved
from sandbox.jail import channel

REASONS = st.lists(st.builds(Reason, st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.text(), st.text()))


def received(data: bytes, size_max: int) -> tuple[bytes, bytes, int | None]:
    """What a walled process makes of bytes on its channel."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.close()
        return channel.receive_frame(theirs, size_max)


@given(st.binary(min_size=1, max_size=1), st.binary(max_size=2000))
def test_a_frame_comes_back(kind: bytes, body: bytes) -> None:
    """What was framed is what is read."""
    assert received(kind + struct.pack("<I", len(body)) + body, 2000) == (kind, body, None)


@given(st.binary(max_size=40))
def test_cut_frames_are_the_end(data: bytes) -> None:
    """Bytes that are no whole frame within the bound end the process in the one agreed way."""
    whole = len(data) >= 5 and struct.unpack_from("<I", data, 1)[0] <= min(16, len(data) - 5)
    if not whole:
        with pytest.raises(EOFError):
            received(data, 16)


def test_an_oversized_length_is_refused_before_it_is_read() -> None:
    """The length is judged before memory is taken for it."""
    with pytest.raises(EOFError):
        received(b"L" + struct.pack("<I", 2**32 - 1), channel.LOAD_BYTES_MAX)


@given(st.binary(), st.binary(), st.binary(), st.binary())
def test_a_program_comes_back(manifest: bytes, content: bytes, codes: bytes, base: bytes) -> None:
    """The four parts keep their borders."""
    body = channel.join_program(manifest, content, codes, base)
    assert channel.split_program(body) == (manifest, content, codes, base)


@given(REASONS)
def test_reports_are_bounded_and_printable(reasons: list[Reason]) -> None:
    """Codes survive; texts arrive clipped to one printable line; every report fits its bound."""
    body = channel.encode_report(reasons, {"nodes": 7})
    decoded = channel.decode_report(body).reasons
    assert len(body) <= channel.REPORT_BYTES_MAX
    assert [r.code for r in decoded] == [r.code for r in reasons[: channel.REASONS_MAX]]
    assert all((r.where + r.text).isprintable() and len(r.text) <= 400 for r in decoded)


def test_the_largest_report_fits() -> None:
    """Texts of characters that JSON escapes at length stay within the frame, whatever the facts."""
    reasons = [Reason("c" * 64, "\U0001f600" * 1000, "\U0001f600" * 1000)] * 60
    for size in (1, 20_000, 200_000):
        facts = {"operators": "\U0001f600" * size}
        assert len(channel.encode_report(reasons, facts)) <= channel.REPORT_BYTES_MAX


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda c: (
            st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["reasons", "facts", "code", "where", "text"]), c)
        ),
        max_leaves=6,
    )
)
def test_a_forged_report_is_refused_in_one_way(data: Any) -> None:
    """A template that has been taken over can lie in a report, but not break the server with one."""
    try:
        report = channel.decode_report(json.dumps(data).encode())
    except WorkerMisbehaved:
        return
    assert all(isinstance(reason, Reason) for reason in report.reasons)
    assert json.loads(json.dumps(report.facts, allow_nan=False)) == report.facts


@given(st.binary(max_size=50))
def test_a_report_of_any_bytes_is_refused_in_one_way(body: bytes) -> None:
    """Noise in place of JSON."""
    try:
        channel.decode_report(body)
    except WorkerMisbehaved:
        return
    assert isinstance(json.loads(body), dict)
