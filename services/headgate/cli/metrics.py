"""``headgate metrics``: Azure's metrics, by the minute."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="Metrics of endpoints and deployments.")

Deployment = Annotated[
    str, Option("--deployment", "-d", help="Of this deployment; else of the endpoint.")
]


@client_command(app, "list-definitions")
async def list_definitions(
    session: Session, endpoint_name: options.OfEndpoint, deployment: Deployment = ""
) -> None:
    """List the metrics that there are. With their units and dimensions."""
    from headgate.client import metrics

    async with session.client() as client:
        found = await metrics.definitions(client, endpoint_name, deployment)
    session.show(
        [
            {
                "name": each["name"]["value"],
                "unit": each["unit"],
                "dimensions": [name["value"] for name in each["dimensions"]],
                "description": each["displayDescription"],
            }
            for each in found
        ]
    )


@client_command(app, "list")
async def list_values(
    session: Session,
    endpoint_name: options.OfEndpoint,
    deployment: Deployment = "",
    metric: Annotated[
        list[str] | None, Option("--metric", "-m", help="Name of a metric; may be repeated.")
    ] = None,
    timespan: Annotated[
        str, Option("--timespan", help="A duration until now (PT1H), or <from>/<until>.")
    ] = "PT1H",
    interval: Annotated[str, Option("--interval", help="PT1M, PT5M, PT1H, P1D, FULL.")] = "PT1M",
    aggregation: Annotated[
        str, Option("--aggregation", help="average, minimum, maximum, total, count.")
    ] = "average",
    filter: Annotated[
        str, Option("--filter", help="\"statusCode eq '*'\" splits, 'blue' keeps.")
    ] = "",
) -> None:
    """Print values of metrics. A row for each time and combination of dimensions."""
    from headgate.client import metrics

    asked = {
        "timespan": timespan,
        "interval": interval,
        "aggregation": aggregation,
        "metricnames": ",".join(metric or ()),
        "$filter": filter,
    }
    async with session.client() as client:
        found = await metrics.query(
            client, endpoint_name, deployment, {name: text for name, text in asked.items() if text}
        )
    session.show(rows(found))


def rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Values of metrics as rows: time, metric, dimensions, figures."""
    return [
        {
            "time": point["timeStamp"],
            "metric": each["name"]["value"],
            "unit": each["unit"],
            **{pair["name"]["value"]: pair["value"] for pair in series["metadatavalues"]},
            **{name: value for name, value in point.items() if name != "timeStamp"},
        }
        for each in found
        for series in each["timeseries"]
        for point in series["data"]
    ]
