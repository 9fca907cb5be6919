"""Ready-made clients of ``azure-ai-ml`` that talk to a Headgate, and their credential.

The only module that imports Azure's packages; they come with the extra ``azure``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from azure.ai.ml import MLClient
from azure.core import PipelineClient
from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
from azure.core.pipeline.policies import RetryPolicy, UserAgentPolicy
from azure.core.rest import HttpRequest, HttpResponse

from headgate import __version__
from headgate.azure import CLOUD_PREFIX, env
from headgate.azure.arm_ids import Context
from headgate.azure.arm_resources import error_of
from headgate.client.target import Target, find_target
from headgate.runtime.settings import client_settings, trust_in_this_process
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import AUDIENCES, CONTROL_AUDIENCE

# Azure's library for storage appends a name of its own to this; all of it leads to one gateway.
_STORAGE_SUFFIX = "core.windows.net"
_DEFAULT_SCOPE = "/.default"
_CLASSIC_CONTROL_AUDIENCE = "https://management.core.windows.net"
EXPIRY_MARGIN_S = 60.0
RETRIES = 5
RETRY_FIRST_S = 0.2
RETRY_AFTER_FAILURE_S = 10.0


def credential(
    data: Path | str | None = None, url: str | None = None, **options: Any
) -> HeadgateCredential:
    """A ``TokenCredential`` for any Azure library that talks to a Headgate.

    ``data`` is the folder of a local Headgate, ``url`` the address of another. Further keywords:
    ``ca``, ``token``, ``token_file`` and ``workspace``. What is not given comes from the
    environment, as it does for the command line: ``HEADGATE_URL``, ``HEADGATE_TOKEN``, ...
    """
    return HeadgateCredential(_target(data, url, **options))


def ml_client(
    data: Path | str | None = None,
    url: str | None = None,
    workspace: str | None = None,
    *,
    subscription_id: str = "",
    resource_group_name: str = "",
    ca: Path | str | None = None,
    token: str = "",
    token_file: Path | str | None = None,
    **options: Any,
) -> MLClient:
    """An ``MLClient`` that is ready to use. ``options`` go to its constructor.

    Any subscription and resource group will do; the workspace is what counts. The authority of
    the Headgate's certificate is added to those that this process trusts (``REQUESTS_CA_BUNDLE``).
    """
    target = _target(data, url, workspace, ca=ca, token=token, token_file=token_file)
    env.require_tls(target)
    if bundle := env.trust_bundle(target, _data_folder(data)):
        trust_in_this_process(bundle)
    place = Context(target.workspace)
    return MLClient(
        HeadgateCredential(target),
        subscription_id or place.subscription,
        resource_group_name or place.resource_group,
        target.workspace,
        **{
            "enable_telemetry": False,
            "show_progress": False,
            "cloud": f"{CLOUD_PREFIX}{urlsplit(target.url).netloc}",
            "cloud_metadata": _cloud_metadata(target.url),
            **options,
        },
    )


def _cloud_metadata(url: str) -> dict[str, str]:
    """What ``azure-ai-ml`` knows of a cloud of its own; this one is a single gateway."""
    return {
        "azure_portal": url,
        "resource_manager": url,
        "active_directory": url,
        "aml_resource_id": "https://ml.azure.com/",
        "storage_endpoint": _STORAGE_SUFFIX,
        "registry_discovery_endpoint": url,
    }


def _data_folder(data: Path | str | None) -> Path | None:
    return Path(data).expanduser() if data else client_settings().data


def _target(
    data: Path | str | None,
    url: str | None,
    workspace: str | None = None,
    *,
    ca: Path | str | None = None,
    token: str = "",
    token_file: Path | str | None = None,
) -> Target:
    said = client_settings()
    return find_target(
        _data_folder(data),
        # A folder given by hand means its own Headgate, whatever the environment says.
        url=url or ("" if data else said.url),
        ca=Path(ca) if ca else said.ca,
        token=token or said.token,
        token_file=Path(token_file) if token_file else said.token_file,
        workspace=workspace or said.workspace,
    )


class HeadgateCredential:
    """Short-lived tokens of a Headgate, in exchange for the caller's own; for several threads.

    A token is kept until half of its life is over. When no new one can be had then, the old one
    goes on being used while it counts.
    """

    def __init__(self, target: Target, *, clock: Callable[[], float] = time.time) -> None:
        env.require_tls(target)
        self._target = target
        self._clock = clock
        self._tokens: dict[str, AccessTokenInfo] = {}
        self._retry_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            target.url,
            policies=[
                UserAgentPolicy(base_user_agent=f"headgate/{__version__}"),
                RetryPolicy(retry_total=RETRIES, retry_backoff_factor=RETRY_FIRST_S),
            ],
            connection_verify=str(target.ca) if target.ca else True,
            connection_timeout=5,
            read_timeout=30,
        )

    def __repr__(self) -> str:
        return f"HeadgateCredential({self._target.url!r})"

    def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **options: Any,
    ) -> AccessToken:
        """A token for one scope, such as ``https://ml.azure.com/.default``."""
        found = self.get_token_info(*scopes)
        return AccessToken(found.token, found.expires_on)

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """The same with the time from which a new one should be asked for."""
        audience = self._audience(scopes)
        with self._lock:
            found = self._tokens.get(audience)
            now = self._clock()
            if found is None or now >= self._renew_at(audience, found):
                found = self._tokens[audience] = self._renewed(audience, found, now)
            return found

    def _audience(self, scopes: tuple[str, ...]) -> str:
        if len(scopes) != 1:
            raise ClientAuthenticationError(f"one scope is needed, not {len(scopes)}")
        resource = scopes[0].removesuffix(_DEFAULT_SCOPE).rstrip("/")
        if resource in (self._target.url, _CLASSIC_CONTROL_AUDIENCE):
            return CONTROL_AUDIENCE
        if resource in AUDIENCES:
            return resource
        raise ClientAuthenticationError(
            f"{self._target.url} has no tokens for {resource[:200]!r}; "
            f"it has them for {', '.join(AUDIENCES)}"
        )

    def _renew_at(self, audience: str, found: AccessTokenInfo) -> float:
        renew_at = found.refresh_on or found.expires_on - EXPIRY_MARGIN_S
        return max(renew_at, self._retry_at.get(audience, 0.0))

    def _renewed(self, audience: str, old: AccessTokenInfo | None, now: float) -> AccessTokenInfo:
        try:
            return self._exchange(audience)
        except ClientAuthenticationError:
            raise
        except AzureError:
            if old is None or now >= old.expires_on - EXPIRY_MARGIN_S:
                raise
            self._retry_at[audience] = now + RETRY_AFTER_FAILURE_S
            return old

    def _exchange(self, audience: str) -> AccessTokenInfo:
        request = HttpRequest(
            "POST",
            f"{self._target.url}{env.TOKEN_PATH}",
            headers={"Authorization": f"Bearer {self._target.token}"},
            data={"grant_type": "client_credentials", "scope": f"{audience}{_DEFAULT_SCOPE}"},
        )
        with self._client.send_request(request) as response:
            if response.status_code != 200:
                raise self._refusal(response)
            body = response.json()
        now = int(self._clock())
        refresh_in = body.get("refresh_in")
        return AccessTokenInfo(
            body["access_token"],
            now + int(body["expires_in"]),
            refresh_on=None if refresh_in is None else now + int(refresh_in),
        )

    def _refusal(self, response: HttpResponse) -> AzureError:
        """What the gateway said; only an answer that repeating cannot change is final."""
        try:
            error = error_of(response.json())
        except ValueError:
            error = None
        text = str(HeadgateError.of(error)) if error else f"HTTP status {response.status_code}"
        message = f"{self._target.url} gives no token: {text}"
        if response.status_code >= 500 or response.status_code == 429:
            return ServiceRequestError(message)
        return ClientAuthenticationError(message)

    def close(self) -> None:
        """Closes the connections; needed only where many credentials are made."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
