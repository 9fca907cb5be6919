"""Azure's surface: ARM JSON, YAML files, upload digests; and ready clients for ``azure-ai-ml``.

``ml_client`` and ``credential`` need the extra ``azure`` and are loaded when first asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from headgate.runtime.settings import forget_inherited_cloud
from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from headgate.azure.sdk import credential, ml_client

CLOUD_PREFIX = "Headgate-"  # of the cloud names under which clients know their Headgate

__all__ = ["credential", "ml_client"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "azure.ai.ml" not in sys.modules:
        forget_inherited_cloud(CLOUD_PREFIX)
    try:
        from headgate.azure import sdk
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("azure"):
            raise
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"headgate.azure.{name} needs the package {error.name}: "
            "run: pip install 'headgate[azure]'",
        ) from None
    return getattr(sdk, name)
