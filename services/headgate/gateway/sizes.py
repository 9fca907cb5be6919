"""The route of instance types: the catalogue in the form in which Azure lists its VM sizes."""

from __future__ import annotations

from math import ceil

from aiohttp import web

from headgate.azure.arm_answers import COUNT, TEXT, plain
from headgate.azure.arm_fields import Json
from headgate.azure.arm_ids import PROVIDER
from headgate.gateway.access import Action
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import Route
from headgate_contracts.instance_types import InstanceType, InstanceTypes

_PATH = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}/vmSizes"
_AMOUNT: Json = {"type": "number", "minimum": 0}
_SIZE = plain(
    "VirtualMachineSize",
    name=TEXT,
    vCPUs=COUNT,
    gpus=COUNT,
    memoryGB=_AMOUNT,
    lowPriorityCapable={"type": "boolean"},
    premiumIO={"type": "boolean"},
    estimatedVMPrices=plain(
        billingCurrency=TEXT,
        unitOfMeasure=TEXT,
        values={
            "type": "array",
            "items": plain(retailPrice=_AMOUNT, osType=TEXT, vmTier=TEXT),
        },
    ),
    supportedComputeTypes={"type": "array", "items": TEXT},
    cores=_AMOUNT,
    isElastic={"type": "boolean"},
    description=TEXT,
)
_SIZES = plain(value={"type": "array", "items": _SIZE})


class Sizes:
    """Serves what every service of this installation was started with."""

    def __init__(self, types: InstanceTypes) -> None:
        self._body = {"value": [_resource(each, types.currency) for each in types]}

    async def list_all(self, call: Call) -> web.StreamResponse:
        return answer(self._body)

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route(
                "GET", _PATH, self.list_all, "List instance types", reply=_SIZES, action=Action.ANY
            ),
        )


def _resource(each: InstanceType, currency: str) -> Json:
    """``cores`` and what follows are ours: Azure counts whole cores only."""
    price = {"retailPrice": each.price_per_hour, "osType": "Linux", "vmTier": "Standard"}
    return {
        "name": each.name,
        "vCPUs": ceil(each.cores),
        "gpus": each.gpus,
        "memoryGB": each.memory_gib,
        "lowPriorityCapable": False,
        "premiumIO": False,
        "estimatedVMPrices": {
            "billingCurrency": currency,
            "unitOfMeasure": "OneHour",
            "values": [price],
        },
        "supportedComputeTypes": ["AmlCompute"],
        "cores": each.cores,
        "isElastic": each.elastic,
        "description": each.description,
    }
