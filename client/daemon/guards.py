"""What every call meets first, whichever service it is for: the token, and bytes that are no message."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from client.daemon.replies import refuse
from shared_model.errors import InputError

__all__ = ["GARBAGE", "NOT_A_MESSAGE", "GarbageGuard", "TokenGuard"]

#: Stands for bytes that are no message.
GARBAGE = object()
NOT_A_MESSAGE = InputError("these bytes are no message of this service", hint="is the client of this version?")

Continuation = Callable[[Any], Awaitable[Any]]


class TokenGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets no call through that does not show the token, reflection and health included.

    Parameters
    ----------
    token
        Compared in constant time with ``authorization: Bearer TOKEN``.
    """

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """Pass a call on, or refuse it."""
        handler = await continuation(handler_call_details)
        metadata = handler_call_details.invocation_metadata or ()
        shown = next((value for key, value in metadata if key == "authorization"), "")
        given = shown if isinstance(shown, bytes) else str(shown).encode()
        if handler is None or hmac.compare_digest(given, self._expected):
            return handler
        return _rebuilt(handler, _deny, parse=None)


class GarbageGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Answers bytes that cannot be parsed with one line, where gRPC would tell which exception Python raised.

    Methods that read their stream themselves (``context.read``) get `GARBAGE`.
    """

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """Wrap the parser of a call's messages, and what gets them."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        kind = f"{'stream' if handler.request_streaming else 'unary'}_"
        kind += "stream" if handler.response_streaming else "unary"
        return _rebuilt(handler, _wrapped(getattr(handler, kind)), parse=_tolerant(handler.request_deserializer))


def _rebuilt(handler: Any, method: Any, *, parse: Callable[[bytes], Any] | None) -> Any:
    """Return a handler of the same kind with another method and parser."""
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = makers[handler.request_streaming, handler.response_streaming]
    return make(method, request_deserializer=parse, response_serializer=handler.response_serializer)


async def _deny(request: object, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong")


def _tolerant(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except Exception:
            return GARBAGE

    return parsed


def _wrapped(method: Any) -> Any:
    """Let ``method`` never see garbage as its request, or in an iterator of requests."""

    async def requests(given: Any, context: Any) -> AsyncIterator[Any]:
        async for request in given:
            if request is GARBAGE:
                await refuse(context, NOT_A_MESSAGE)
            yield request

    if inspect.isasyncgenfunction(method):

        async def generator(request: Any, context: Any) -> AsyncIterator[Any]:
            whole = requests(request, context) if hasattr(request, "__aiter__") else request
            if whole is GARBAGE:
                await refuse(context, NOT_A_MESSAGE)
            async for reply in method(whole, context):
                yield reply

        return generator

    async def coroutine(request: Any, context: Any) -> Any:
        if request is GARBAGE:
            await refuse(context, NOT_A_MESSAGE)
        return await method(request, context)

    return coroutine
