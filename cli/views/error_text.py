"""What went wrong, in one line, and the exit status that goes with it.

Rule: this is the one place where an exception becomes words for a person. The line shows no control
character and no key; the exceptions were cleaned of keys where they arose.

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


def line_of(error: BaseException) -> str:
    """The one sentence for a person."""
    if isinstance(error, Openai2Error):
        sentence = error_message(error)
    elif isinstance(error, click.UsageError):
        sentence = _usage(error)
    elif isinstance(error, click.ClickException):
        sentence = error.format_message()
    elif is_of_the_api(error):
        sentence = _of_the_api(error)
    elif isinstance(error, OSError):
        sentence = _of_the_system(error)
    else:
        sentence = _("an unexpected {kind}: {message}", kind=type(error).__name__, message=str(error))
    return one_line(sentence)


def status_of(error: BaseException) -> int:
    """The exit status."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return INTERRUPTED
    return error.exit_code if isinstance(error, click.ClickException) else FAILED


def ended_by(error: BaseException) -> int:
    """Where every error that ends the command does so: as one line, and the exit status that is returned."""
    status = status_of(error)
    if status == INTERRUPTED:
        return status
    if paths.debugging() and is_unexpected(error):
        raise error
    try:
        tell(error)
    except BrokenPipeError:
        pipe_closed()
    return status


def pipe_closed() -> int:
    """Nobody reads us any more: what is still to be flushed goes nowhere, without a complaint at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError):  # a stream that is no file, under a test
            pass
    return PIPE_CLOSED


def tell(error: BaseException) -> None:
    """Say it on standard error."""
    sys.stdout.flush()
    sys.stderr.write(paint("openai2:", "red", sys.stderr) + f" {line_of(error)}\n")
    sys.stderr.flush()


def is_unexpected(error: BaseException) -> bool:
    """Whether it is a defect of ours rather than something that happens."""
    return not (isinstance(error, (Openai2Error, click.ClickException, OSError)) or is_of_the_api(error))


def is_of_the_api(error: BaseException) -> bool:
    """Whether it is one of the `openai` package's; where that was never imported, none can be."""
    # Another thread may be in the middle of the import.
    base: Any = getattr(sys.modules.get("openai"), "OpenAIError", None)
    return base is not None and isinstance(error, base)


def warn(sentence: str) -> None:
    """Something that a person should know, though all goes on."""
    note(f"openai2: {sentence}")


def _usage(error: click.UsageError) -> str:
    sentence = error.format_message().rstrip(".")
    path = error.ctx.command_path if error.ctx is not None else "openai2"
    return _("{sentence} ({command} --help tells more)", sentence=sentence, command=path)


def _of_the_api(error: BaseException) -> str:
    status: Any = getattr(error, "status_code", None)
    body: Any = getattr(error, "body", None)
    said = body.get("message") if is_dict(body) else None
    sentence = str(said or getattr(error, "message", None) or error)
    if status is not None:
        return _("the server answered {status}: {sentence}", status=status, sentence=sentence)
    kind = type(error).__name__
    if kind == "APITimeoutError":
        return _("the server did not answer in time")
    cause = error.__cause__ or error.__context__
    if kind == "APIConnectionError" and cause is not None and str(cause) and str(cause) not in sentence:
        return _("the server cannot be reached: {reason}", reason=translate_foreign(str(cause)))
    return translate_foreign(sentence)


def _of_the_system(error: OSError) -> str:
    reason = translate_foreign(error.strerror or str(error)) or type(error).__name__
    if error.filename is None:
        return reason
    return _("{path}: {reason}", path=str(error.filename), reason=reason)
