"""Archives as bytes: what an engine exports, and what an import makes of it."""

from __future__ import annotations

import io

from openai2 import Engine


def exported(engine: Engine, *names: str) -> bytes:
    out = io.BytesIO()
    engine.export(names or None, file=out)
    return out.getvalue()


def import_states(engine: Engine, raw: bytes) -> dict[str, int]:
    """Import an archive; return how many conversations got which state."""
    report = engine.import_(io.BytesIO(raw))
    states = [arrived.state for arrived in report.conversations]
    return {state: states.count(state) for state in states}
