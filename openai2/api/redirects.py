"""The SDK's clients with one rule more: a redirect is followed only where the question and the key may go.

Invariants:
- A redirect is followed if it keeps the POST and the origin (scheme, host and port).
- Any other is a failure with the new address in its text: the HTTP libraries would turn a POST into a GET, or
  take headers with keys to another origin.

`clients` imports this module when it makes the first client, since the import of `openai` takes a second.
"""

from __future__ import annotations

from typing import Any

import httpx2
import openai

#: Redirects of one request that are followed.
MOST_REDIRECTS = 5

_KEEPS_POST = (307, 308)


def _followed(options: Any, error: openai.APIStatusError) -> Any:
    """Return the options for the request that a redirect asks for. Raises if it is not followed."""
    response = error.response
    if not response.has_redirect_location:
        raise error
    here = httpx2.URL(str(response.request.url))
    try:
        target = here.join(response.headers["location"])
    except httpx2.InvalidURL:
        raise error from None
    shown = str(target.copy_with(userinfo=b"", query=None, fragment=None))
    if target.origin != here.origin:
        reason = "the API key is not sent to another server"
    elif response.status_code not in _KEEPS_POST:
        reason = "the question would not be sent"
    else:
        return options.model_copy(update={"url": str(target.copy_with(userinfo=b""))})
    message = f"the server redirects to {shown}, which is not followed: {reason}; check base_url"
    raise openai.APIStatusError(message, response=response, body=error.body) from None


def _circle(error: openai.APIStatusError) -> openai.APIConnectionError:
    message = f"the server redirects more than {MOST_REDIRECTS} times"
    return openai.APIConnectionError(message=message, request=error.request)


def _not_following(options: Any) -> Any:
    return options.model_copy(update={"follow_redirects": False})


class Client(openai.OpenAI):
    """The blocking client."""

    def request(self, cast_to: Any, options: Any, **how: Any) -> Any:
        """Send a request, and again for each redirect that is followed."""
        options = _not_following(options)
        for left in range(MOST_REDIRECTS, -1, -1):
            try:
                return super().request(cast_to, options, **how)
            except openai.APIStatusError as error:
                options = _followed(options, error)
                if not left:
                    raise _circle(error) from None
        raise AssertionError("unreachable")


class AsyncClient(openai.AsyncOpenAI):
    """The async client."""

    async def request(self, cast_to: Any, options: Any, **how: Any) -> Any:
        """Send a request, and again for each redirect that is followed."""
        options = _not_following(options)
        for left in range(MOST_REDIRECTS, -1, -1):
            try:
                return await super().request(cast_to, options, **how)
            except openai.APIStatusError as error:
                options = _followed(options, error)
                if not left:
                    raise _circle(error) from None
        raise AssertionError("unreachable")
