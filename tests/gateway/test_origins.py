"""Where a request came from, when the studio sends it for somebody."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import BaseRequest

from headgate.gateway.authentication import Authenticator
from headgate.gateway.origins import Origins
from headgate.runtime.clock import SystemClock
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import ORIGIN_HEADER, Trust


def request(origin: str = "", remote: str = "127.0.0.1") -> BaseRequest:
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (
        (remote, 4711) if name == "peername" else default
    )
    headers = {"Authorization": "Bearer hga_wrong"}
    if origin:
        headers[ORIGIN_HEADER] = origin
    return make_mocked_request("GET", "/whoami", headers=headers, transport=transport)


async def test_an_address_is_believed_when_this_gateway_has_vouched_for_it() -> None:
    origins = Origins()
    assert origins.of(request(origins.vouched("10.1.2.3"))) == "10.1.2.3"
    forged = origins.vouched("10.1.2.3").replace("10.1.2.3", "10.9.9.9")
    for other in ("", "10.1.2.3", "10.1.2.3 abc", forged, Origins().vouched("10.1.2.3")):
        assert origins.of(request(other)) == "127.0.0.1"


async def test_wrong_tokens_count_against_whoever_showed_them_to_the_studio() -> None:
    origins = Origins()
    checks = Authenticator(
        "hga_right", Trust, SystemClock(), failures_per_minute=3, origins=origins
    )

    def code(origin: str) -> ErrorCode:
        with pytest.raises(HeadgateError) as caught:
            checks.bearer(request(origin))
        return caught.value.error.code

    guesser = origins.vouched("10.1.2.3")
    codes = [code(guesser) for _ in range(5)]
    assert codes[:3] == [ErrorCode.UNAUTHORIZED] * 3
    assert codes[-1] is ErrorCode.TOO_MANY_REQUESTS
    assert code(origins.vouched("10.1.2.4")) is ErrorCode.UNAUTHORIZED
    assert code("") is ErrorCode.UNAUTHORIZED
