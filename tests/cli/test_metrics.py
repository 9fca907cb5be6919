"""``headgate metrics`` against a running system."""

from __future__ import annotations

from cli.conftest import Command
from cli.terminal import headgate
from headgate.cli.metrics import rows
from headgate_contracts.metrics import DEPLOYMENT, ENDPOINT


def test_definitions_are_those_of_azure(cli: Command) -> None:
    of_endpoint = cli("metrics", "list-definitions", "-e", "digits").document
    assert [each["name"] for each in of_endpoint] == [metric.name for metric in ENDPOINT]
    of_deployment = cli("metrics", "list-definitions", "-e", "digits", "-d", "blue").document
    assert [each["name"] for each in of_deployment] == [metric.name for metric in DEPLOYMENT]


def test_what_has_no_values_is_an_empty_list(cli: Command, endpoint: str) -> None:
    told = cli("metrics", "list", "-e", endpoint, "-m", "RequestsPerMinute")
    assert told.document == []


def test_metrics_of_what_was_never_there_end_with_4(cli: Command, endpoint: str) -> None:
    for place in (("-e", "never-there"), ("-e", endpoint, "-d", "blue")):
        ran = headgate("metrics", "list", *place, "-m", "RequestsPerMinute")
        assert (ran.code, ran.out) == (4, ""), ran
        assert place[-1] in ran.err


def test_an_unknown_metric_names_a_near_one(cli: Command) -> None:
    ran = headgate("metrics", "list", "-e", "digits", "-m", "RequestPerMinute")
    assert ran.code != 0 and "RequestsPerMinute" in ran.err and "Traceback" not in ran.err


def test_a_value_is_a_row() -> None:
    name = {"value": "statusCode", "localizedValue": "statusCode"}
    found = [
        {
            "name": {"value": "RequestsPerMinute"},
            "unit": "Count",
            "timeseries": [
                {
                    "metadatavalues": [{"name": name, "value": "200"}],
                    "data": [{"timeStamp": "2030-03-10T00:00:00Z", "average": 6.0}],
                }
            ],
        }
    ]
    assert rows(found) == [
        {
            "time": "2030-03-10T00:00:00Z",
            "metric": "RequestsPerMinute",
            "unit": "Count",
            "statusCode": "200",
            "average": 6.0,
        }
    ]
