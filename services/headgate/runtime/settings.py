"""Settings of a Headgate process, read once and passed down frozen.

Precedence: command line > environment (``HEADGATE_<NAME>``) > file (``headgate.yaml`` in the data
folder, or ``--config``) > default. No other module of this package reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

_PREFIX = "HEADGATE_"
SUPERVISOR_VARIABLE = _PREFIX + "SUPERVISOR_PID"  # identity of the `headgate up` we belong to
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseModel):
    """One value per setting; the description is what the documentation shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(Path("~/.headgate"), description="folder that holds everything we keep")
    workspace: str = Field("local", description="workspace used when a command names none")
    http: bool = Field(False, description="plain HTTP instead of TLS; only on loopback")
    host: str = Field("127.0.0.1", description="address that gateway and scoring listen on")
    port: int = Field(8900, ge=0, le=65_535, description="gateway port; 0 picks a free one")
    scoring_port: int = Field(8901, ge=0, le=65_535, description="scoring port; 0: a free one")
    routers: int = Field(
        1, ge=1, le=64, description="router processes of `headgate up`; they share the scoring port"
    )
    scoring_fd: int | None = Field(
        None, ge=3, description="socket that listens for scoring already; `headgate up` sets it"
    )
    scoring_address: str = Field(
        "", description="URL under which clients reach the scoring ingress, if another"
    )
    router_metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="port of a router's own /metrics, the next for the next one; 0: none",
    )
    nats: str = Field("", description="URL of the bus; empty starts a private nats-server")
    nats_server: Path | None = Field(None, description="nats-server binary; empty: our wheel's")
    database: str = Field("", description="SQLAlchemy URL; empty: SQLite files in the data folder")
    store: str = Field("", description="object store URL; empty: a folder in the data folder")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    body_bytes_max: int = Field(
        limits.BODY_BYTES_MAX,
        ge=1,
        description="largest body of a scoring request, and of an answer that is made as a whole",
    )
    reconcile_s: float = Field(2.0, gt=0, description="time between looks at wanted and observed")
    restart_backoff_s: float = Field(
        limits.RESTART_BACKOFF_FIRST_S, gt=0, description="first wait before a failed restart"
    )
    drain_timeout_s: float = Field(
        limits.DRAIN_TIMEOUT_S, gt=0, description="time an instance gets to finish its requests"
    )

    log_days: float = Field(7.0, gt=0, description="age after which rows of logs are forgotten")
    log_rows_max: int = Field(
        500_000, ge=1_000, description="rows of each log table; endpoints with most give first"
    )
    metric_days: float = Field(30.0, gt=0, description="age after which metrics are forgotten")
    metric_rows_max: int = Field(
        2_000_000, ge=1_000, description="minutes of deployments and instances that are kept"
    )
    traffic_log_rows_per_s: int = Field(
        100,
        ge=0,
        le=10_000,
        description="requests per second that a router logs of one endpoint; 0: none",
    )
    trace_share: float = Field(
        0.0, ge=0, le=1, description="share of requests that are traced without asking for it"
    )
    otlp_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="OpenTelemetry collector that gets traces and logs by OTLP over HTTP, such as "
        "http://127.0.0.1:4318; needs the extra otel; empty: none",
    )
    console_log_rows_per_s: int = Field(
        100,
        ge=0,
        le=10_000,
        description="lines per second that are logged of one instance; 0: none",
    )

    links: bool = Field(
        True, description="requests go past the bus to instances that are processes beside a router"
    )
    driver: Literal["auto", "process", "docker"] = Field(
        "auto", description="what instances are: processes, containers, or as they need"
    )
    docker_image: str = Field(
        "python:3.11-slim-bookworm", description="image of environments that name none"
    )
    environment_refresh_hours: float = Field(
        0.0,
        ge=0,
        le=8_760,
        description="time between looks for newer base images and packages; 0: only when asked",
    )
    studio: bool = Field(True, description="serve the studio, where the extra portal is installed")
    private_networks: str = Field(
        "",
        description="networks whose clients reach endpoints with public_network_access disabled, "
        "such as 10.0.0.0/8, with spaces between them; empty: none",
    )
    batch_inputs: str = Field(
        "",
        description="addresses beside the workspace's datastores that jobs may read, as prefixes "
        "with spaces between them, such as s3://bucket/in or https://host/path; empty: none",
    )
    batch_networks: str = Field(
        "",
        description="networks that jobs may reach although they are not public, such as "
        "10.0.0.0/8, with spaces between them: for web servers and datastores; empty: none",
    )
    batch_outputs: str = Field("", description="the same for what jobs may write to; empty: none")
    alert_urls: str = Field(
        "",
        description="addresses that alerts may be sent to, as prefixes with spaces between them, "
        "such as https://hooks.example.com/T1; empty: none",
    )
    alert_networks: str = Field(
        "",
        description="networks that alerts may reach although they are not public, such as "
        "10.0.0.0/8, with spaces between them; empty: none",
    )
    oidc_issuer: str = Field(
        "", description="OpenID Connect issuer whose tokens count besides our own; empty: none"
    )
    oidc_audience: str = Field("", description="audience that tokens of that issuer must have")
    oidc_jwks: str = Field("", description="URL of its keys; empty: asked of the issuer itself")
    oidc_roles_claim: str = Field(
        "roles", description="claim that lists a caller's roles as <workspace>/<role>"
    )
    failed_auth_per_minute: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="wrong credentials that the gateway checks per minute and address; 0: any",
    )
    instance_types: Path | None = Field(
        None, description="YAML file of instance types that adds to the catalogue; empty: none"
    )
    elastic_types: bool = Field(
        True, description="cut elastic instance types to this machine; false: reserve every type"
    )
    host_cores: float | None = Field(
        None, gt=0, description="cores for instances; empty: those of this machine"
    )
    host_memory_gib: float | None = Field(
        None, gt=0, description="memory for instances; empty: 90 % of this machine's"
    )
    host_gpus: int | None = Field(
        None, ge=0, description="GPUs for instances; empty: those of this machine"
    )
    require_if_match: bool = Field(
        False, description="refuse changes of existing resources without If-Match (428)"
    )

    @field_validator("host")
    @classmethod
    def _keep_http_inside(cls, host: str, info: ValidationInfo) -> str:
        if info.data.get("http") and host not in _LOOPBACK:
            raise ValueError(
                f"plain HTTP (setting 'http') is allowed on {', '.join(_LOOPBACK)} only"
            )
        return host

    @property
    def keys_dir(self) -> Path:
        return self.data / "keys"

    @property
    def run_dir(self) -> Path:
        return self.data / "run"

    @property
    def logs_dir(self) -> Path:
        return self.data / "logs"

    @property
    def tls_dir(self) -> Path:
        return self.data / "tls"

    @property
    def usage_dir(self) -> Path:
        return self.data / "usage"

    @property
    def instances_dir(self) -> Path:
        return self.data / "instances"

    @property
    def links_dir(self) -> Path:
        return self.data / "links"

    def database_url(self, service: str) -> str:
        """The database of one service: the shared server, or a SQLite file of its own."""
        return self.database or f"sqlite+aiosqlite:///{self.data}/db/{service}.sqlite"

    def store_url(self) -> str:
        """The object store as a URL."""
        return self.store or f"file://{self.data}/store"

    def gateway_url(self) -> str:
        """Where clients reach the REST API."""
        return self._url(self.port)

    def scoring_url(self) -> str:
        """Where clients reach the scoring ingress."""
        return self.scoring_address or self._url(self.scoring_port)

    def _url(self, port: int) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{'http' if self.http else 'https'}://{host}:{port}"

    def to_environ(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {_PREFIX + name.upper(): str(value) for name, value in values.items() if value != ""}


def load(
    given: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Merge the four sources. ``given`` holds command-line values; None means not given.

    Raises HeadgateError(BadArgument) that names the setting, its source and what is allowed.
    """
    environ = os.environ if environ is None else environ
    chosen = {key: value for key, value in (given or {}).items() if value is not None}
    from_env = {
        name: environ[_PREFIX + name.upper()]
        for name in Settings.model_fields
        if environ.get(_PREFIX + name.upper(), "") != ""
    }
    data = Path(chosen.get("data") or from_env.get("data") or Settings().data).expanduser()
    path = config or data / "headgate.yaml"
    from_file = _read_file(path, required=config is not None)
    merged = {**from_file, **from_env, **chosen, "data": data.absolute()}
    try:
        return Settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        source = "command line" if name in chosen else "environment"
        if name not in chosen and name not in from_env:
            source = str(path)
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"setting {name!r} ({source}): "
            + first["msg"].removeprefix("Value error, ").replace("Input", repr(first["input"]), 1),
            target=name,
        ) from None


def client_token(environ: Mapping[str, str] | None = None) -> str:
    """The token of a client: never a command-line argument, which other users could see."""
    return (os.environ if environ is None else environ).get("HEADGATE_TOKEN", "")


def config_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The folder in which a user's programs keep what they were told: ``~/.config/headgate``."""
    found = os.environ if environ is None else environ
    return Path(found.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "headgate"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a client reads from its environment, with the names that the command line has."""

    data: Path | None
    url: str
    ca: Path | None
    token: str = field(repr=False)
    token_file: Path | None
    workspace: str


def client_settings(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """The settings of a program that uses a Headgate, where it is not the command line."""
    found = os.environ if environ is None else environ

    def path(name: str) -> Path | None:
        return Path(found[_PREFIX + name]).expanduser() if found.get(_PREFIX + name) else None

    return ClientSettings(
        data=path("DATA"),
        url=found.get(_PREFIX + "URL", ""),
        ca=path("CA"),
        token=client_token(found),
        token_file=path("TOKEN_FILE"),
        workspace=found.get(_PREFIX + "WORKSPACE", ""),
    )


AZURE_CLOUD = "AZUREML_CURRENT_CLOUD"
CA_BUNDLE = "REQUESTS_CA_BUNDLE"


def ca_bundle(environ: Mapping[str, str] | None = None) -> str:
    """The file of authorities that the user has chosen for HTTP libraries; empty: none."""
    return (os.environ if environ is None else environ).get(CA_BUNDLE, "")


def trust_in_this_process(bundle: Path) -> None:
    """Let the HTTP libraries of this process trust the authorities of a file.

    Azure's storage client is made deep inside ``azure-ai-ml`` and takes no other word for it.
    """
    os.environ[CA_BUNDLE] = str(bundle)


def forget_inherited_cloud(prefix: str) -> None:
    """Forget the name of a cloud that only the process that started this one can resolve.

    An ``MLClient`` leaves it in its environment, and ``import azure.ai.ml`` fails where it is
    found and not known.
    """
    if os.environ.get(AZURE_CLOUD, "").startswith(prefix):
        del os.environ[AZURE_CLOUD]


def inherited(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without settings of ours: the base for child processes."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if not name.startswith(_PREFIX)}


def supervisor_identity(environ: Mapping[str, str] | None = None) -> str:
    """``pid:start`` of the ``headgate up`` that started this process, empty without one."""
    environ = os.environ if environ is None else environ
    return environ.get(SUPERVISOR_VARIABLE, "")


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"settings file {path} does not exist")
        return {}
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"{path} must hold a mapping of settings")
    return values
