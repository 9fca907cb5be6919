"""What the environment says: ``HEADGATE_*`` by the driver, the rest by Azure's contract."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

PREFIX = "HEADGATE_"
SCORING_TIMEOUT_MS_DEFAULT = 3_600_000
WORKER_COUNT_MAX = 256
BATCH_ROWS_MAX = 100_000
BATCH_WAIT_MS_MAX = 60_000
COLLECT_BYTES_MAX_DEFAULT = 256 * 1024 * 1024


class SettingsError(ValueError):
    """A variable with a value that cannot be meant; ``user`` tells who has set it."""

    def __init__(self, message: str, *, user: bool) -> None:
        super().__init__(message)
        self.user = user


class Settings(NamedTuple):
    """Everything that is decided from outside."""

    listen: str
    server: str
    bus_urls: tuple[str, ...]
    token_file: str
    endpoint: str
    deployment: str
    instance: str
    spec: str
    capacity: int
    last_words: str
    supervisor: str
    drain_timeout_s: float
    app_root: str
    source_dir: str
    entry_script: str
    model_dir: str
    mlflow_folder: str
    lanes: int
    cors_origins: tuple[str, ...]
    scoring_timeout_ms: int
    batch_max_rows: int  # 0: the deployment does not say
    batch_max_wait_ms: int
    log_level: str
    server_version: str
    service_name: str
    service_version: str
    path_prefix: str
    collect: str
    collect_dir: str
    collect_bytes_max: int
    batch: str
    link_dir: str


def load(environ: Mapping[str, str], *, version: str) -> Settings:
    """Reads and checks all variables. Raises SettingsError."""
    said = environ.get
    listen = said("HEADGATE_LISTEN", "")
    urls = "" if listen else _ours(environ, "BUS_URL")
    return Settings(
        listen=listen,
        server=said("HEADGATE_SERVER", ""),
        bus_urls=tuple(filter(None, (u.strip() for u in urls.split(",")))),
        token_file=said("HEADGATE_BUS_TOKEN_FILE", ""),
        endpoint=_ours(environ, "ENDPOINT"),
        deployment=_ours(environ, "DEPLOYMENT"),
        instance=_ours(environ, "INSTANCE"),
        spec=said("HEADGATE_SPEC", ""),
        capacity=_whole(environ, "HEADGATE_CAPACITY", 1, most=100_000),
        last_words=said("HEADGATE_LAST_WORDS", ""),
        supervisor=said("HEADGATE_SUPERVISOR_PID", ""),
        drain_timeout_s=_seconds(environ, "HEADGATE_DRAIN_TIMEOUT_S", 30.0),
        app_root=os.path.abspath(said("AML_APP_ROOT") or os.getcwd()),
        source_dir=said("AZUREML_SOURCE_DIRECTORY", ""),
        entry_script=said("AZUREML_ENTRY_SCRIPT", ""),
        model_dir=said("AZUREML_MODEL_DIR", ""),
        mlflow_folder=said("MLFLOW_MODEL_FOLDER", ""),
        lanes=1 if listen else _whole(environ, "WORKER_COUNT", 1, most=WORKER_COUNT_MAX),
        cors_origins=tuple(
            filter(None, (o.strip() for o in said("AML_CORS_ORIGINS", "").split(",")))
        ),
        scoring_timeout_ms=_whole(environ, "SCORING_TIMEOUT_MS", SCORING_TIMEOUT_MS_DEFAULT),
        batch_max_rows=_whole(environ, "BATCH_MAX_ROWS", 0, least=0, most=BATCH_ROWS_MAX),
        batch_max_wait_ms=_whole(environ, "BATCH_MAX_WAIT_MS", 0, least=0, most=BATCH_WAIT_MS_MAX),
        log_level=said("AZUREML_LOG_LEVEL", "INFO").upper(),
        server_version=_server_version(environ, version),
        service_name=said("SERVICE_NAME", "ML service"),
        service_version=said("SERVICE_VERSION", "1.0"),
        path_prefix=said("SERVICE_PATH_PREFIX", ""),
        collect=said("HEADGATE_COLLECT", ""),
        collect_dir=said("HEADGATE_COLLECT_DIR", ""),
        collect_bytes_max=_whole(environ, "HEADGATE_COLLECT_BYTES_MAX", COLLECT_BYTES_MAX_DEFAULT),
        batch=said("HEADGATE_BATCH", ""),
        link_dir=said("HEADGATE_LINK_DIR", ""),
    )


def forget(environ: MutableMapping[str, str]) -> None:
    """Takes our own variables away, so that the user's code neither sees nor inherits them."""
    for name in [name for name in environ if name.startswith(PREFIX)]:
        del environ[name]


def _ours(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(PREFIX + name, "")
    if not value:
        raise SettingsError(
            f"{PREFIX}{name} is not set; whoever starts a worker sets it", user=False
        )
    return value


def _whole(
    environ: Mapping[str, str], name: str, default: int, *, least: int = 1, most: int = 2**31
) -> int:
    text = environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(
            f"the environment variable {name} must be a whole number from {least} to {most}, "
            f"not {text[:80]!r}; correct it in the deployment's environment_variables",
            user=not name.startswith(PREFIX),
        )
    return int(text)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "") or str(default)
    try:
        return max(0.0, float(text))
    except ValueError:
        raise SettingsError(
            f"{name} must be a number of seconds, not {text!r}", user=False
        ) from None


def _server_version(environ: Mapping[str, str], version: str) -> str:
    """Empty unless the user asked for the header, by the reference server's two variables."""
    if environ.get("SERVER_VERSION_LOG_RESPONSE_ENABLED", "").lower() != "true":
        return environ.get("HTTP_X_MS_SERVER_VERSION", "")
    return environ.get("HTTP_X_MS_SERVER_VERSION", "") or f"headgate_worker/{version}"
