"""Errors as one line of text, and the exit status of the command.

Invariants:
- Only this module turns an exception into text for a person.
- The line contains no control character and no key; keys are removed from exceptions where they are raised.

    0 done      1 failed      2 wrong usage      130 interrupted      141 the reader closed the pipe
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from openai2.cli.settings import paths
from openai2.cli.terminal.i18n import _, error_message, translate_foreign
from openai2.cli.terminal.text import note, one_line, paint
from openai2.core.typeguards import is_dict
from openai2.errors import Openai2Error

FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141


def error_line(error: BaseException) -> str:
    """Return the text of an error, on one line."""
    if isinstance(error, Openai2Error):
        text = error_message(error)
    elif isinstance(error, click.UsageError):
        text = _usage_text(error)
    elif isinstance(error, click.ClickException):
        text = error.format_message()
    elif is_api_error(error):
        text = _api_text(error)
    elif isinstance(error, OSError):
        text = _system_text(error)
    else:
        text = _("unexpected {kind}: {message}", kind=type(error).__name__, message=str(error))
    return one_line(text)


def report(error: BaseException) -> int:
    """Print an error that ends the command; return the exit status.

    If OPENAI2_DEBUG is set, raise an unexpected error again.
    """
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return INTERRUPTED
    if paths.is_debugging() and is_unexpected(error):
        raise error
    try:
        print_error(error)
    except BrokenPipeError:
        discard_output()
    return error.exit_code if isinstance(error, click.ClickException) else FAILED


def discard_output() -> int:
    """Redirect standard output and error to nowhere, so that no flush at exit fails; return PIPE_CLOSED."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(null, stream.fileno())
        except (OSError, ValueError):  # not a file, as in a test
            pass
    return PIPE_CLOSED


def print_error(error: BaseException) -> None:
    """Print the line of an error on standard error."""
    sys.stdout.flush()
    sys.stderr.write(paint("openai2:", "red", sys.stderr) + f" {error_line(error)}\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning on standard error."""
    note(f"openai2: {text}")


def is_unexpected(error: BaseException) -> bool:
    """Return whether an error is a defect of openai2, not of its use or surroundings."""
    return not (isinstance(error, (Openai2Error, click.ClickException, OSError)) or is_api_error(error))


def is_api_error(error: BaseException) -> bool:
    """Return whether an error is from the `openai` package; False if that was never imported."""
    # getattr: another thread may be importing the package.
    base: Any = getattr(sys.modules.get("openai"), "OpenAIError", None)
    return base is not None and isinstance(error, base)


def _usage_text(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "openai2"
    return _("{message} (see {command} --help)", message=message, command=command)


def _api_text(error: BaseException) -> str:
    status: Any = getattr(error, "status_code", None)
    body: Any = getattr(error, "body", None)
    message = body.get("message") if is_dict(body) else None
    text = str(message or getattr(error, "message", None) or error)
    if status is not None:
        return _("the server answered {status}: {message}", status=status, message=text)
    kind = type(error).__name__
    if kind == "APITimeoutError":
        return _("the server did not answer in time")
    cause = error.__cause__ or error.__context__
    if kind == "APIConnectionError" and cause is not None and str(cause) and str(cause) not in text:
        return _("cannot reach the server: {reason}", reason=translate_foreign(str(cause)))
    return translate_foreign(text)


def _system_text(error: OSError) -> str:
    reason = translate_foreign(error.strerror or str(error)) or type(error).__name__
    if error.filename is None:
        return reason
    return _("{path}: {reason}", path=str(error.filename), reason=reason)
