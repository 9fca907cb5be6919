"""A run of the load tests as a file: steps are added one at a time, so that it can go on later.

``.cache/loadtests/run.json`` holds the run under way; ``--save`` copies what it has into
``loadtests/results``.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headgate.router import compiled
from loadtests.environments import ENVIRONMENTS

CURRENT = ENVIRONMENTS / "run.json"

Cell = dict[str, Any]


@dataclass(slots=True)
class Run:
    """What has been measured so far."""

    at: str
    machine: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    scenarios: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def resume(cls, *, fresh: bool = False) -> Run:
        """The run under way, or a new one."""
        if CURRENT.exists() and not fresh:
            return cls.read(CURRENT)
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), machine())

    @classmethod
    def read(cls, path: Path) -> Run:
        return cls(**json.loads(path.read_text()))

    def over(self, earlier: Run) -> Run:
        """This run, and of an earlier one the models and scenarios that this one left out."""
        scenarios = {**earlier.scenarios, **self.scenarios}
        if not self.cells:
            return replace(earlier, scenarios=scenarios)
        measured = {cell["workload"] for cell in self.cells}
        kept = [cell for cell in earlier.cells if cell["workload"] not in measured]
        return replace(self, cells=self.cells + kept, scenarios=scenarios)

    def write(self, path: Path = CURRENT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(self.document(), indent=1) + "\n")
        draft.replace(path)

    def document(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "machine": self.machine,
            "cells": self.cells,
            "steps": self.steps,
            "absent": self.absent,
            "scenarios": self.scenarios,
        }

    def add(self, step: str, cells: Iterable[Cell]) -> None:
        """A step is done."""
        self.cells += cells
        self.steps.append(step)
        self.write()

    def add_scenario(self, name: str, result: dict[str, Any]) -> None:
        self.scenarios[name] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **result}
        self.write()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    memory_kib = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "scoring_path": compiled.state(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
