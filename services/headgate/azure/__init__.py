"""Azure's surface: ARM JSON, YAML files, upload digests; and ready clients for ``azure-ai-ml``.

``ml_client`` and ``credential`` need the extra ``azure`` and are loaded when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from headgate.azure.sdk import credential, ml_client

__all__ = ["credential", "ml_client"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
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
