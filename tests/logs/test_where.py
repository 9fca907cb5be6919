"""The filter language: what it accepts, what it says of the rest, and that it means one thing."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert

from headgate.logs import sql, where
from headgate.logs.rows import TrafficRow, metadata
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.logs import CONSOLE, TABLES, TRAFFIC, Log, QueryLogs
from logs.conftest import AT, traffic_row
from logs.oracle import holds

NOW = AT


def parse(text: str) -> where.Condition:
    return where.parse(text, TRAFFIC, NOW)


def refusal(text: str) -> str:
    with pytest.raises(HeadgateError) as caught:
        parse(text)
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
    assert caught.value.error.target == "where"
    return caught.value.error.message


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("", {}, True),
        ("ResponseCode >= 500", {"status": 503}, True),
        ("ResponseCode >= 500", {"status": 499}, False),
        ("responsecode==200", {}, True),
        ("ResponseCode >= 500 and DeploymentName == 'blue'", {"status": 500}, False),
        ("ResponseCode == 1 or ResponseCode == 200 and Method == ''", {}, True),
        ("(ResponseCode == 200 or ResponseCode == 1) and Method == 'x'", {}, False),
        ("not ResponseCode == 200", {}, False),
        ("not not ResponseCode == 200", {}, True),
        ("ResponseCode in (404, 429, 503)", {"status": 429}, True),
        ("ResponseCode !in (404, 429)", {"status": 429}, False),
        ('XRequestId == "a\\"b"', {"request_id": 'a"b'}, True),
        ("Path contains 'SWAG'", {"path": "/swagger.json"}, True),
        ("Path !contains 'swag'", {"path": "/swagger.json"}, False),
        ("Path startswith '/s' AND Path endswith 'ON'", {"path": "/swagger.json"}, True),
        ("Path contains '%'", {"path": "/score"}, False),
        ("Path contains '_'", {"path": "/score"}, False),
        ("ModelStatusCode == null", {}, True),
        ("ModelStatusCode != null", {"model_status": 200}, True),
        ("ModelStatusCode == 200", {}, False),
        ("ModelStatusCode != 200", {}, True),
        ("not (ModelStatusCode < 500)", {}, True),
        ("TotalDurationMs > 1.5e2", {"total_ms": 151.0}, True),
        ("TotalDurationMs > 150", {"total_ms": 150.5}, True),
        ("ResponseCode > 199.5", {}, True),
        ("TimeGenerated > ago(1h)", {"at": NOW - 3_599}, True),
        ("TimeGenerated > ago(1h)", {"at": NOW - 3_601}, False),
        ("TimeGenerated >= datetime(2030-03-17T17:46:40Z)", {}, True),
        ("TimeGenerated < '2030-03-17T18:46:40+01:00'", {}, False),
        ("AzureMLWorkspaceName == 'local'", {}, True),
        ("RequestThrottlingDelayMs == 0", {}, True),
    ],
)
def test_a_filter_means_the_same_in_words_and_in_sql(
    text: str, row: dict[str, Any], expected: bool
) -> None:
    with database([{**traffic_row().model_dump(), **row}]) as connection:
        assert bool(selected(connection, text)) is expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ResponseCod == 200", "did you mean ResponseCode?"),
        ("zzz == 200", "there are TimeGenerated, Method"),
        ("ResponseCode = 200", "cannot be read at character 14: '= 200'; equal is =="),
        ("ResponseCode == '200'", "where a number belongs"),
        ("Method == 5", "a text in quotes belongs"),
        ("Method == GET", "a text in quotes belongs"),
        ("Method == 'GET", "a text at character 11 that does not end"),
        ("ResponseCode", "has the end at character 13"),
        ("ResponseCode ==", "has the end at character 16, where a number belongs"),
        ("ResponseCode == 200 and", "a column, 'not' or '('"),
        ("(ResponseCode == 200", "')'"),
        ("ResponseCode == 200)", "'and', 'or' or the end"),
        ("ResponseCode == 200 ResponseCode == 1", "'and', 'or' or the end"),
        ("ResponseCode contains 2", "not a text"),
        ("ResponseCode < null", "only == and != know it"),
        ("ResponseCode in ()", "a number belongs"),
        ("ResponseCode in (null)", "compare with == null"),
        ("ResponseCode == 99999999999999999999", "64 bits"),
        ("TotalDurationMs == 1e999", "too large"),
        ("TimeGenerated > ago(1 fortnight)", "ago(10m)"),
        ("TimeGenerated > '2030-01-31T12:00:00'", "with its zone"),
        ("TimeGenerated > 5", "ago(1h) or datetime"),
        ("Method == 'a\0b'", "NUL"),
        ("Method !== 'a'", "cannot be read at character 10"),
        ("Method !matches 'a'", "in, contains, startswith, endswith"),
        ("__import__('os') == 1", "no column '__import__'"),
        ("1 == 1", "a column, 'not' or '('"),
        ("Method == 'a'; drop table logs_traffic", "cannot be read at character 14"),
        ("(" * 40 + "ResponseCode == 1" + ")" * 40, "nested deeper than 30"),
        (" or ".join(["Path<''"] * 201), "more than 200 comparisons"),
        (f"ResponseCode in ({','.join(['1'] * 300)})", "more than 200 comparisons"),
        ("a" * (limits.LOG_WHERE_CHARS_MAX + 1), "longer than 4000 characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    assert said in refusal(text)


@given(st.text(max_size=300))
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        parse(text)
    except HeadgateError as error:
        assert error.error.target == "where"


@given(
    st.lists(
        st.sampled_from(
            [
                "ResponseCode",
                "Method",
                "and",
                "or",
                "not",
                "!",
                "in",
                "contains",
                "(",
                ")",
                ",",
                "==",
                "<",
                "'x'",
                "5",
                "null",
                "ago(1h)",
                "TimeGenerated",
            ]
        ),
        max_size=40,
    )
)
def test_any_order_of_words_is_a_filter_or_is_refused(words: list[str]) -> None:
    try:
        parse(" ".join(words))
    except HeadgateError as error:
        assert error.error.target == "where"


# --- a filter that is made at random means in SQL what it means in Python ----------------------

NASTY = ["", "a", "A", "%", "_", "\\", "'", '"', "a%b", "x' or '1'='1", "ä", "100%", "a_b", "AbC"]
TEXTS = st.one_of(
    st.sampled_from(NASTY), st.text(string.ascii_letters + "%_\\'\"/ä;-- ", max_size=5)
)
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([200, 2**63 - 1, -(2**63) + 1]))
FLOATS = st.sampled_from([0.0, 0.5, -1.25, 200.0, 1e300])


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def literals(kind: str) -> st.SearchStrategy[str]:
    if kind == "string":
        return TEXTS.map(quoted)
    if kind == "datetime":
        return st.integers(0, 5).map(lambda age: f"ago({age}s)")
    return st.one_of(NUMBERS.map(str), FLOATS.map(repr))


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    column = draw(st.sampled_from([each for each in TRAFFIC.columns if each.field]))
    kind = column.type.value
    value = literals(kind)
    form = draw(st.sampled_from(["sign", "in", "null", *(["part"] if kind == "string" else [])]))
    if form == "in":
        words = draw(st.sampled_from(["in", "!in"]))
        values = ", ".join(draw(st.lists(value, min_size=1, max_size=3)))
        return f"{column.name} {words} ({values})"
    if form == "null":
        return f"{column.name} {draw(st.sampled_from(['==', '!=']))} null"
    if form == "part":
        word = draw(st.sampled_from(["contains", "startswith", "endswith"]))
        return f"{column.name} {draw(st.sampled_from(['', '!']))}{word} {draw(value)}"
    sign = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
    return f"{column.name} {sign} {draw(value)}"


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda part: f"not ({part})"),
        st.lists(inner, min_size=2, max_size=3).map(" and ".join).map(lambda part: f"({part})"),
        st.lists(inner, min_size=2, max_size=3).map(" or ".join).map(lambda part: f"({part})"),
    ),
    max_leaves=6,
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    row = traffic_row().model_dump()
    for name in ("deployment", "method", "path", "reason", "request_id", "user_agent"):
        row[name] = draw(TEXTS)
    for name in ("status", "request_bytes"):
        row[name] = draw(NUMBERS)
    row["model_status"] = draw(st.one_of(st.none(), NUMBERS))
    row["response_ms"] = draw(st.one_of(st.none(), FLOATS))
    row["total_ms"] = draw(FLOATS)
    row["at"] = NOW - draw(st.integers(0, 5))
    return row


@contextmanager
def database(found: list[dict[str, Any]]) -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        if found:
            connection.execute(insert(TrafficRow), found)
        yield connection
    engine.dispose()


def selected(connection: Connection, text: str) -> list[int]:
    query = QueryLogs(workspace="local", table=Log.TRAFFIC, where=text, limit=10_000)
    _, statement = sql.rows_of(query, NOW)
    return sorted(row[0] for row in connection.execute(statement))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(rows(), max_size=8), FILTERS)
def test_sql_selects_what_the_filter_says(found: list[dict[str, Any]], text: str) -> None:
    tree = parse(text)
    expected = [number for number, row in enumerate(found, 1) if holds(tree, row)]
    with database(found) as connection:
        assert selected(connection, text) == expected


def test_values_are_parameters_never_sql() -> None:
    text = "Path == 'x'' or 1=1' or Path contains '; drop table logs_traffic'"
    query = QueryLogs(
        workspace="local", table=Log.TRAFFIC, where="Path contains '; drop table logs_traffic'"
    )
    _, statement = sql.rows_of(query, NOW)
    assert "drop" not in str(statement)
    refusal(text)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.log.value)
def test_every_column_can_be_asked_for_and_compared(table: Any) -> None:
    for column in table.columns:
        value = {"string": "'x'", "datetime": "ago(1h)"}.get(column.type.value, "1")
        text = f"{column.name} == {value}"
        query = QueryLogs(workspace="w", table=table.log, where=text, columns=(column.name,))
        columns, _ = sql.rows_of(query, NOW)
        assert [each.name for each in columns] == [column.name]


def test_columns_are_azures_and_ours_come_last() -> None:
    """What Azure documents of its three tables, in its order."""
    assert " ".join(TRAFFIC.shown) == (
        "TimeGenerated Method Path SubscriptionId AzureMLWorkspaceId AzureMLWorkspaceName "
        "EndpointName DeploymentName Protocol ResponseCode ResponseCodeReason ModelStatusCode "
        "ModelStatusReason RequestPayloadSize ResponsePayloadSize UserAgent XRequestId "
        "XMSClientRequestId TotalDurationMs RequestDurationMs ResponseDurationMs "
        "RequestThrottlingDelayMs ResponseThrottlingDelayMs"
    )
    assert CONSOLE.shown == (
        *("TimeGenerated", "OperationName", "InstanceId", "DeploymentName", "ContainerName"),
        "Message",
    )
    for table in TABLES.values():
        owns = [column.is_own for column in table.columns]
        assert owns == sorted(owns)


def test_the_tables_of_the_database_are_those_of_the_migrations(data_dir: Path) -> None:
    """Columns, types and indexes: what a row says is what upgraded databases have."""
    import asyncio

    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from headgate.logs.app import MIGRATIONS
    from headgate.logs.rows import VERSION_TABLE
    from headgate.runtime.tables import open_database

    async def differences() -> list[Any]:
        opened = await open_database(
            f"sqlite+aiosqlite:///{data_dir}/db/x.sqlite", MIGRATIONS, VERSION_TABLE
        )
        async with opened.engine.connect() as connection:
            found = await connection.run_sync(
                lambda each: compare_metadata(
                    MigrationContext.configure(each, opts={"version_table": VERSION_TABLE}),
                    metadata,
                )
            )
        await opened.close()
        return list(found)

    assert asyncio.run(differences()) == []
