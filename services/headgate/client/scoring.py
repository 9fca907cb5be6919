"""One scoring request, as any program would send it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from headgate.client.target import Target
from headgate_contracts.errors import ErrorCode, HeadgateError

DEPLOYMENT_HEADER = "azureml-model-deployment"
MODEL_STATUS_HEADER = "ms-azureml-model-error-statuscode"
_TIMEOUT = aiohttp.ClientTimeout(total=320, sock_connect=5)


@dataclass(frozen=True, slots=True)
class Scored:
    """What the endpoint answered."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


async def score(
    target: Target,
    uri: str,
    key: str,
    body: bytes,
    *,
    deployment: str = "",
    content_type: str = "application/json",
    method: str = "POST",
) -> Scored:
    """Sends ``body`` to a scoring address. Raises HeadgateError only when nobody answers."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": content_type}
    if deployment:
        headers[DEPLOYMENT_HEADER] = deployment
    tls: ssl.SSLContext | bool = True
    if uri.startswith("https") and target.ca is not None:
        tls = ssl.create_default_context(cafile=target.ca)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.request(
                method,
                uri,
                data=body or None,
                headers=headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response,
        ):
            content = await response.read()
            return Scored(response.status, response.reason or "", response.headers, content)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        code = ErrorCode.TIMED_OUT if isinstance(error, TimeoutError) else ErrorCode.UNAVAILABLE
        raise HeadgateError(code, f"no answer from {uri}: {error or 'it took too long'}") from None
