"""One call of a ClientApp for one simulated device, and the first cause of what went wrong in it.

A device tells a server only the kind of an error; its text stays in the device's own log. The people
who simulate read that log: it is theirs.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Error, Message
from flwr.supercore.task_identity import TaskIdentity

from shared_model.errors import EaselError

__all__ = ["CLIENT_FAILED", "App", "become_task", "call_device", "said"]

#: The code of a reply where the app itself raised.
CLIENT_FAILED = 2
_LOG = "easel.client"
_SERVER_NODE = 1

#: A ClientApp, or anything else that answers a message.
App = Callable[[Message, Context], Message]


def call_device(app: App, message: Message, context: Context) -> tuple[Message, str]:
    """Run a device's app.

    Returns
    -------
    reply
        The app's own; an exception that it lets through becomes an error reply with its first cause.
    cause
        The first cause of an error, with the place in the code where it is not one that easel raises;
        empty where all went well.
    """
    heard = _Ear()
    log = logging.getLogger(_LOG)
    log.addHandler(heard)
    try:
        reply = app(message, context)
        cause = (heard.cause or str(reply.error.reason)) if reply.has_error() else ""
    except Exception as error:
        cause = said(error)
        reply = Message(Error(code=CLIENT_FAILED, reason=cause), reply_to=message)
    finally:
        log.removeHandler(heard)
    return reply, cause


def said(error: BaseException) -> str:
    """Return the first cause of an exception in a line, with file and line number if it is not easel's own.

    Examples
    --------
    >>> said(EaselError("no such folder"))
    'EaselError: no such folder'
    """
    first = error
    while (cause := first.__cause__ or (None if first.__suppress_context__ else first.__context__)) is not None:
        first = cause
    text = f"{type(first).__name__}: {first}"
    frames = traceback.extract_tb(first.__traceback__)
    if isinstance(first, EaselError) or not frames:
        return text
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def become_task() -> None:
    """Name the task for which this process creates messages, as Flower's runtimes do."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, _SERVER_NODE


class _Ear(logging.Handler):
    """Hears which exception a device writes into its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.cause = ""

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        for value in (*arguments, record.exc_info[1] if record.exc_info else None):
            if isinstance(value, BaseException):
                self.cause = said(value)
