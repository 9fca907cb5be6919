#!/usr/bin/env python3
"""Rolls a new version of a model out behind an endpoint, step by step, and back when it is bad.

    rollout.py --endpoint shop --file deployment.yml --request sample_request.json

The endpoint has two places, blue and green. The new version goes where no traffic is, is tried
through the header that names a deployment, and then gets its share of the traffic in steps. Between
two steps the answers that real clients got are counted. Whatever goes wrong, the version that
served before gets all traffic again, and the exit code is that of the command that failed.

Only Python and the `headgate` command are needed; `headgate login` or HEADGATE_URL and
HEADGATE_TOKEN say which Headgate is meant.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any, NoReturn

PLACES = ("blue", "green")
# What a client cannot help: the model failed, was too slow, or the platform had no room.
BAD_STATUSES = {408, 424, 429, 500, 502, 503, 504}


class Failed(Exception):
    """The roll-out cannot go on; ``code`` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def headgate(*arguments: str) -> Any:
    """One command; the JSON document that it prints."""
    done = subprocess.run(
        ["headgate", *arguments, "--output", "json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        command = f"headgate {' '.join(arguments[:2])}"
        raise Failed(f"{command} ended with {done.returncode}", done.returncode)
    return json.loads(done.stdout) if done.stdout.strip() else None


class Rollout:
    """One new version on its way to all of the traffic."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.endpoint: str = asked.endpoint
        shares = headgate("online-endpoint", "show", "-n", self.endpoint)["traffic"]
        self.existing = set(shares)
        serving = [place for place in PLACES if shares.get(place)]
        self.old = max(serving, key=lambda place: shares[place], default="")
        self.new = PLACES[1] if self.old == PLACES[0] else PLACES[0]

    def run(self) -> None:
        say(f"{self.new} gets the new version; {self.old or 'nothing'} serves")
        try:
            self.deploy()
            self.try_by_header()
            for share in self.asked.steps if self.old else [100]:
                self.shift(share)
        except (Failed, KeyboardInterrupt) as error:
            self.roll_back()
            raise Failed(f"rolled back: {error}", getattr(error, "code", 130)) from None
        say(f"{self.new} has all traffic of {self.endpoint}")

    def deploy(self) -> None:
        """Make or replace the deployment that no client uses; returns when it is ready."""
        verb = "update" if self.new in self.existing else "create"
        place = (f"name={self.new}", f"endpoint_name={self.endpoint}")
        command = ("online-deployment", verb, "-f", self.asked.file, "--set", *place)
        headgate(*command, "-n", self.new, "-e", self.endpoint)

    def try_by_header(self) -> None:
        """Requests that go to the new version only."""
        for number in range(1, self.asked.tests + 1):
            say(f"test request {number} of {self.asked.tests}")
            invoke = ("online-endpoint", "invoke", "-n", self.endpoint, "-d", self.new)
            headgate(*invoke, "-r", self.asked.request)

    def shift(self, share: int) -> None:
        """Give the new version its share, and look how the clients fare for a while."""
        say(f"{share} % to {self.new}")
        before = self.statuses()
        self.set_traffic(share)
        deadline = time.monotonic() + self.asked.pause_s
        while True:
            good, bad = self.compared(before, self.statuses())
            if bad * 100 > self.asked.errors_percent_max * (good + bad):
                raise Failed(f"{bad} of {good + bad} answers of {self.new} were bad")
            if time.monotonic() >= deadline:
                return
            time.sleep(min(1.0, self.asked.pause_s))

    def statuses(self) -> dict[int, int]:
        """How many answers of each status the new version has given so far."""
        rows = headgate("online-endpoint", "traffic", "-n", self.endpoint)
        found: dict[str, int] = next(
            (row["statuses"] for row in rows if row["deployment"] == self.new), {}
        )
        return {int(status): count for status, count in found.items()}

    @staticmethod
    def compared(before: dict[int, int], now: dict[int, int]) -> tuple[int, int]:
        """Good and bad answers since then; a router that started anew counts from 0."""
        since = {status: max(0, count - before.get(status, 0)) for status, count in now.items()}
        bad = sum(count for status, count in since.items() if status in BAD_STATUSES)
        return sum(since.values()) - bad, bad

    def set_traffic(self, share: int) -> None:
        parts = [f"{self.new}={share}"] + ([f"{self.old}={100 - share}"] if self.old else [])
        headgate("online-endpoint", "update", "-n", self.endpoint, "--traffic", *parts)

    def roll_back(self) -> None:
        if not self.old:
            return
        try:
            shares = headgate("online-endpoint", "show", "-n", self.endpoint)["traffic"]
            if shares.get(self.old) == 100:
                say(f"{self.old} has kept all traffic")
                return
            say(f"all traffic back to {self.old}")
            self.set_traffic(0)
        except Failed as error:
            say(f"that failed as well, look at {self.endpoint} at once: {error}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--file", required=True, help="YAML file of the deployment")
    parser.add_argument("--request", required=True, help="file with a request to test with")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50, 100], metavar="PERCENT")
    parser.add_argument("--pause-s", type=float, default=30.0, help="watch that long per step")
    parser.add_argument("--tests", type=int, default=5, help="requests before any traffic")
    parser.add_argument("--errors-percent-max", type=float, default=1.0)
    asked = parser.parse_args()
    if asked.steps[-1] != 100 or not all(0 < step <= 100 for step in asked.steps):
        parser.error("--steps are percentages from 1 to 100, and the last one is 100")
    return asked


def main() -> NoReturn:
    try:
        Rollout(arguments()).run()
    except Failed as error:
        say(f"error: {error}")
        sys.exit(error.code)
    sys.exit(0)


if __name__ == "__main__":
    main()
