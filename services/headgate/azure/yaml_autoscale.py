"""Files of autoscale settings: Azure Monitor's resource, as JSON or YAML.

``$schema: .../autoscaleSetting.schema.json`` or ``type: Microsoft.Insights/autoscaleSettings`` tell
what a file is. The target may be written in short: ``onlineEndpoints/<e>/deployments/<d>``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from headgate.azure import arm_autoscale
from headgate.azure.yaml_nodes import Mapping, Node, Scalar
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.errors import ErrorCode, HeadgateError

SCHEMA = "autoscalesetting"


def is_setting(root: Node, schema: str) -> bool:
    """Whether a file describes an autoscale setting."""
    kind = root.items.get("type") if isinstance(root, Mapping) else None
    text = kind.text.lower() if isinstance(kind, Scalar) else ""
    return schema == SCHEMA or text == arm_autoscale.TYPE.lower()


def setting(path: Path, workspace: str = "local") -> AutoscaleSpec:
    """The setting in a file that has been read as YAML before, and so is known to be harmless."""
    document: Any = yaml.safe_load(path.read_bytes())
    body = json.loads(json.dumps(document, default=str))  # times that YAML knows as such
    body.pop("$schema", None)
    properties = body.get("properties")
    name = body.get("name") or (properties.get("name") if isinstance(properties, dict) else None)
    if not isinstance(name, str):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"{path}: an autoscale setting needs a name", target="name"
        )
    try:
        return arm_autoscale.setting_spec(name, body, workspace)[1]
    except HeadgateError as error:
        text = f"{path}: {error.error.message}"
        raise HeadgateError.of(error.error.model_copy(update={"message": text})) from None
