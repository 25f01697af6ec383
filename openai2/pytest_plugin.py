"""The pytest fixture `openai2_recording`: a test whose requests are answered from its own recording.

The recording is in `recordings/` beside the test's file, and is named after file and test. The marker
`openai2_recording(ignore=…, record=…, partly=…)` passes options to `openai2.testing.recorded`.

Invariants:
- pytest loads this module wherever openai2 is installed, so it imports nothing until it is used.
- A test that fails leaves its recording as it was.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from openai2.testing import recorded

_passed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "openai2_recording(ignore=(), record=None, partly=False): options of the openai2_recording fixture",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Store whether the test itself passed."""
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.fixture
def openai2_recording(request: pytest.FixtureRequest) -> Generator[recorded, None, None]:
    """Answer the test's requests from `recordings/FILE.TEST.jsonl`, which the first run writes."""
    from openai2.testing import recorded

    marker = request.node.get_closest_marker("openai2_recording")
    options: dict[str, Any] = dict(marker.kwargs) if marker else {}
    name = re.sub(r"[^\w.-]+", "-", f"{request.path.stem}.{request.node.name}").strip("-")
    path = request.path.parent / "recordings" / f"{name}.jsonl"
    recording = recorded(path, **options)
    recording.__enter__()
    try:
        yield recording
    finally:
        recording.close(failed=not request.node.stash.get(_passed, False))
