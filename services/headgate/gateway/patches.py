"""PATCH: a merge patch on what is stored, repeated when somebody else was faster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from headgate.azure.arm_fields import Json, Problems, pointer
from headgate.gateway import core
from headgate.gateway.http import Call
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Resource

R = TypeVar("R", bound=Resource)
PATCH_TRIES = 5


def patched(body: Json, patch: object, patchable: tuple[str, ...]) -> Json:
    """``body`` with a merge patch applied that may touch some of its fields only."""
    problems = Problems()
    if not isinstance(patch, dict):
        problems.add("", "an object is expected")
    else:
        for key in patch.keys() - set(patchable):
            allowed = " and ".join(patchable)
            problems.add(pointer("", key), f"PATCH changes {allowed}; use PUT for the rest")
    problems.raise_any()
    merged: Json = core.merge_patch(body, patch)
    return merged


async def patch_stored(
    call: Call,
    read: Callable[[Call], Awaitable[R]],
    store: Callable[[R, int], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Read, and store what ``store`` makes of it if its revision is still the same.

    A client that names a revision of its own (``If-Match``) is told at once when it is outdated.
    """
    condition = call.condition
    for tries_left in reversed(range(PATCH_TRIES)):
        found = await read(call)
        revision = found.revision if condition.if_revision is None else condition.if_revision
        try:
            return await store(found, revision)
        except HeadgateError as error:
            changed_meanwhile = error.error.code is ErrorCode.REVISION_MISMATCH
            if not changed_meanwhile or condition.must_exist or not tries_left:
                raise
    raise AssertionError("the last try returns or raises")
