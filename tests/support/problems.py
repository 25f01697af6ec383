"""The problems that verify reports."""

from __future__ import annotations

from collections.abc import Iterable

from openai2 import Engine
from openai2.audit.report import Problem


def found_problems(engine: Engine) -> list[Problem]:
    """Run verify; return its problems except missing guards, which tests drop to damage a store."""
    return [problem for problem in engine.verify().problems if "which guards the log" not in problem.what]


def places(problems: Iterable[Problem]) -> set[tuple[str | None, int | None]]:
    """Return the (conversation, version) of each problem."""
    return {(problem.conversation, problem.version) for problem in problems}
