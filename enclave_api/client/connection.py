"""A mutual-TLS channel, and errors from the wire as exceptions with the catalogue's code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc

from audit.errors import HeixiaError
from enclave_api.client.server_certificate import as_pem, take_certificate
from enclave_api.error_catalog import CODE_KEY
from enclave_api.errors import ConnectionFailed, CredentialsMissing
from enclave_api.wire_limits import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from model_registry.signing import SigningKey

CALL_TIMEOUT_S = 30.0
UPLOAD_TIMEOUT_S = 300.0  # inspection of a large model included

T = TypeVar("T")


class Refused(HeixiaError):
    """The server refused a call. `code` is the error catalogue's, `status` gRPC's."""

    def __init__(self, code: str, status: str, text: str) -> None:
        super().__init__(f"{code}: {text}", public=text)
        setattr(self, "code", code)  # noqa: B010 - elsewhere a class has one code, here the wire says it
        self.status = status


@dataclass(frozen=True)
class Credentials:
    """A client's folder: cert.pem, key.pem, ca.pem and, where it signs, signing.jwk."""

    folder: Path

    def channel(self, server: str, only: bytes | None = None) -> grpc.Channel:
        """A channel with mutual TLS.

        Args:
            server: HOST:PORT.
            only: the one certificate (DER) that the server may show; None = any that ca.pem vouches for.

        Raises:
            CredentialsMissing: a file is missing.
        """
        try:
            ca, key, cert = ((self.folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
        except OSError as error:
            public = f"{self.folder} lacks cert.pem, key.pem or ca.pem"
            raise CredentialsMissing("credentials", public=public) from error
        limits = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX * 2),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX * 2),
        ]
        return grpc.secure_channel(
            server, grpc.ssl_channel_credentials(as_pem(only) if only else ca, key, cert), limits
        )

    def signing_key(self) -> "SigningKey":
        """The private signing key; raises CredentialsMissing, SignatureInvalid."""
        from model_registry.signing import load_signing_key  # few commands sign

        try:
            return load_signing_key((self.folder / "signing.jwk").read_text())
        except OSError as error:
            raise CredentialsMissing("signing key", public=f"{self.folder} has no signing.jwk") from error


@dataclass
class Client:
    """Base of the SDK's classes. Use as a context manager, or call close()."""

    credentials: Credentials
    channel: grpc.Channel
    server: str = ""

    @classmethod
    def connect(cls, server: str, folder: Path | str) -> Self:
        """Opens a channel to HOST:PORT with the credentials in a folder; the handshake happens at the first call."""
        credentials = Credentials(Path(folder))
        return cls(credentials, credentials.channel(server), server)

    def pin(self) -> bytes:
        """Takes the server's certificate with a handshake; from now on the channel speaks to its holder alone.

        Costs one TLS handshake, and ends calls that are under way on the old channel. A server that comes back with
        another certificate is refused until `pin` is called again.

        Returns:
            The certificate, DER.

        Raises:
            ConnectionFailed, CredentialsMissing.
        """
        certificate = take_certificate(self.server, self.credentials.folder)
        old, self.channel = self.channel, self.credentials.channel(self.server, certificate)
        old.close()
        return certificate

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: Callable[..., T], request: Any, timeout_s: float = CALL_TIMEOUT_S) -> T:
        """Calls a stub's method; raises Refused, ConnectionFailed."""
        with wire_errors():
            return method(request, timeout=timeout_s)


@contextmanager
def wire_errors() -> Iterator[None]:
    """Turns gRPC's errors into Refused (the server's answer) or ConnectionFailed (no answer)."""
    try:
        yield
    except grpc.RpcError as error:
        metadata: dict[str, Any] = dict(cast("Any", error.trailing_metadata() or ()))
        status, text = error.code(), str(error.details() or "")
        if CODE_KEY in metadata:
            raise Refused(str(metadata[CODE_KEY]), status.name, text) from None
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise ConnectionFailed(text, public=_unanswered(text)) from None
        raise Refused(f"grpc_{status.name.lower()}", status.name, text) from None


def _unanswered(text: str) -> str:
    """What to look at, and gRPC's last error without the layers around it."""
    last = text.rpartition("last error: ")[2].removeprefix("UNKNOWN: ").removeprefix("UNAVAILABLE: ")
    if "Connection refused" in last:  # nobody listens: then certificates are not the reason
        place = last.partition(": ")[0]
        return f"is `heixia serve` running there? {place}: Connection refused"
    return f"is `heixia serve` running there, and is your certificate of its authority? {last[:160]}"
