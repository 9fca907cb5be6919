"""YAML files of quotas; Azure has none."""

from __future__ import annotations

from pydantic import Field

from headgate.azure.yaml_files import Kind, YamlFile
from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.quotas import QuotaKind

QUOTA = Kind("quota", ("quota",), {})


class QuotaFile(Value):
    """A quota as a file says it; ``window`` is a length of time such as ``1h``."""

    name: str = Field(pattern=limits.ASSET_NAME_PATTERN)
    kind: QuotaKind
    limit: float = Field(ge=0, le=limits.QUOTA_LIMIT_MAX)
    endpoint: str = ""
    deployment: str = ""
    caller: str = ""
    window: str = ""


def quota(document: YamlFile) -> QuotaFile:
    """What the file asks for. Raises YamlFileError."""
    return document.typed(QuotaFile, QUOTA)
