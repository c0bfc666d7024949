"""Around every call, in this order, once: authorise → count → translate errors."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog
from grpc.aio import AbortError, ServerInterceptor, ServicerContext

from audit.errors import HeixiaError, ServiceError
from enclave_api.access_policy import authorise
from enclave_api.error_catalog import CODE_KEY, line_of, public_text
from enclave_api.errors import Busy, RequestInvalid, Unauthenticated
from enclave_api.identity import Principal, principal_of
from enclave_api.metrics import Metrics

_log = structlog.get_logger("heixia.rpc")
_caller: ContextVar[Principal] = ContextVar("caller")

if TYPE_CHECKING:  # these are generic for the type checker alone
    Context = ServicerContext[Any, Any]
    RpcHandler = grpc.RpcMethodHandler[Any, Any]
    _Interceptor = ServerInterceptor[Any, Any]
else:
    Context, RpcHandler, _Interceptor = ServicerContext, grpc.RpcMethodHandler, ServerInterceptor

Handler = Callable[[Any, Context], Any]
Reader = Callable[[Any], Any]


def caller() -> Principal:
    """The authenticated caller of the call in progress."""
    return _caller.get()


@dataclass
class Doorkeeper(_Interceptor):
    """Nobody gets past without a certificate of the trust domain and a line in the access policy."""

    trust_domain: str
    metrics: Metrics
    in_flight_max: int
    in_flight: int = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[RpcHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> RpcHandler:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        if not handler:  # no such method: gRPC answers UNIMPLEMENTED itself
            return handler
        kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
        wrap = self._streaming if handler.response_streaming else self._unary
        make: Callable[..., RpcHandler] = getattr(grpc, f"{kind}_rpc_method_handler")
        read = _stream_reader if handler.request_streaming else _reader
        # Requests are parsed here and not by gRPC, so that whoever may not call is refused before a byte is parsed,
        # and malformed bytes get the catalogue's answer.
        return make(
            wrap(handler_call_details.method, getattr(handler, kind), read(handler.request_deserializer)),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, handler: Handler, read: Reader) -> Handler:
        async def call(request: Any, context: Context) -> Any:
            began = time.perf_counter()
            try:
                with self._admit(method, context):
                    response = await handler(read(request), context)
            except Exception as error:
                await self._refuse(method, context, error, began)
            self.metrics.rpc(method, "ok", time.perf_counter() - began)
            return response

        return call

    def _streaming(self, method: str, handler: Handler, read: Reader) -> Handler:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            began = time.perf_counter()
            try:
                with self._admit(method, context):
                    async for item in handler(read(request), context):
                        yield item
            except Exception as error:
                await self._refuse(method, context, error, began)
            self.metrics.rpc(method, "ok", time.perf_counter() - began)

        return call

    @contextmanager
    def _admit(self, method: str, context: Context) -> Iterator[None]:
        pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
        if not pem:
            raise Unauthenticated("no client certificate")
        principal = principal_of(pem, self.trust_domain)
        authorise(method, principal)
        _caller.set(principal)
        if self.in_flight >= self.in_flight_max:
            raise Busy("calls")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _refuse(self, method: str, context: Context, error: Exception, began: float) -> NoReturn:
        if isinstance(error, AbortError):
            raise error
        if isinstance(error, ServiceError):
            _log.error("service error", method=method, code=error.code, detail=str(error))
        elif isinstance(error, HeixiaError):
            _log.info("refused", method=method, code=error.code)
        else:
            # The type alone: a message of foreign code may hold a value.
            _log.error("unexpected", method=method, type=type(error).__name__)
        known = error if isinstance(error, HeixiaError) else HeixiaError()
        self.metrics.rpc(method, known.code, time.perf_counter() - began)
        await context.abort(line_of(known).status, public_text(known), trailing_metadata=((CODE_KEY, known.code),))
        raise AssertionError("abort always raises")


def _reader(parse: Callable[[bytes], Any] | None) -> Reader:
    def read(raw: bytes) -> Any:
        try:
            return parse(raw) if parse else raw
        except Exception as error:  # protobuf's own, and whatever its runtime raises
            raise RequestInvalid("not a message", public="the bytes are no message of this RPC") from error

    return read


def _stream_reader(parse: Callable[[bytes], Any] | None) -> Reader:
    read = _reader(parse)

    async def parts(raw: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for part in raw:
            yield read(part)

    return parts


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"
