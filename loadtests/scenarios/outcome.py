"""What every scenario comes to: figures, and promises with their limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from loadtests.report import Check


@dataclass(slots=True)
class Outcome:
    """``figures``: text to number or text, in the order of the report."""

    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def at_most(self, text: str, value: float, limit: float) -> None:
        self.checks.append(Check(text, round(value, 4), limit, at_most=True))

    def at_least(self, text: str, value: float, limit: float) -> None:
        self.checks.append(Check(text, round(value, 4), limit))

    def document(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "figures": {
                text: round(value, 4) if isinstance(value, float) else value
                for text, value in self.figures.items()
            },
            "checks": [asdict(check) for check in self.checks],
        }
