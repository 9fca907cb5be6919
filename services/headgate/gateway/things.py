"""What the routes of datastores and computes have in common: conditions, lists, deletions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from aiohttp import web

from headgate.azure.arm_fields import Json
from headgate.gateway import core
from headgate.gateway.backend import Backend, all_of, list_answer, page_answer, read_page
from headgate.gateway.cursors import Position
from headgate.gateway.http import Call
from headgate_contracts.envelope import Command, Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import Resource

R = TypeVar("R", bound=Resource)
Part = Callable[[str, int], Awaitable[tuple[Sequence[R], str]]]
REMOVALS = {200: "deleted", 204: "there was none"}
FILTERS = ("tags", "$tags", "properties", "names", "searchText")


async def answer_list(
    call: Call,
    part: Part[R],
    describe: Callable[[R], Json],
    is_wanted: Callable[[R], bool] | None = None,
    *,
    is_kept_so: bool = True,
) -> web.StreamResponse:
    """One page of a list that a service gives in parts.

    In the order in which it is kept, only that page is asked for. Filters, another order
    (``is_kept_so`` false) and a start by number need everything before the page as well.
    """
    page = read_page(call)
    if is_wanted is None and is_kept_so and not page.skip:
        items, after = await part(page.after, page.size)
        following = Position(after=after) if after else None
        return page_answer(call, [describe(item) for item in items], following)
    found = await all_of(part)
    return list_answer(call, [each for each in found if not is_wanted or is_wanted(each)], describe)


def is_filtered(call: Call) -> bool:
    """Whether a query wants less than everything."""
    return any(call.query.get(name) for name in FILTERS)


def is_chosen(call: Call, name: str, tags: dict[str, str], properties: dict[str, str]) -> bool:
    """Whether a resource is among what the query wants."""
    query = call.query
    names = [each for each in query.get("names", "").split(",") if each]
    return (
        (not names or name in names)
        and query.get("searchText", "").lower() in name.lower()
        and core.has_labels(tags, query.get("tags", "") or query.get("$tags", ""))
        and core.has_labels(properties, query.get("properties", ""))
    )


async def answer_removal(backend: Backend, command: Command) -> web.Response:
    """Give a service the command to forget something that may be gone already."""
    try:
        await backend.ask(command, Done)
    except HeadgateError as error:
        if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
            raise
        return removal_answer(existed=False)
    return removal_answer(existed=True)


def removal_answer(existed: bool) -> web.Response:
    """200 when something is gone now, 204 when there was nothing."""
    return web.Response(status=200 if existed else 204)
