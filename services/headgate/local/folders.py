"""What local endpoints consist of, as files."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from headgate.runtime.copies import remove_tree
from headgate.runtime.files import private_dir, write_atomic
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import DeploymentSpec, EndpointSpec

V = TypeVar("V", bound=Value)

ENDPOINT = "endpoint.json"
DEPLOYMENT = "deployment.json"


class Kept(Value):
    """A local deployment as it was last asked for; ``file`` is where its YAML is.

    ``python`` is empty when it runs in a container, of the image ``image``.
    """

    spec: DeploymentSpec
    file: str
    code: str
    script: str
    python: str
    port: int
    path: str = "/score"
    image: str = ""
    debug_port: int = 0


class Folders:
    """``<data>/local/<endpoint>/<deployment>``."""

    def __init__(self, data: Path) -> None:
        self.root = data.absolute() / "local"

    def of(self, endpoint: str, deployment: str) -> Path:
        return self.root / endpoint / deployment

    # --- endpoints -----------------------------------------------------------------------------

    def endpoints(self) -> list[EndpointSpec]:
        found = sorted(self.root.glob(f"*/{ENDPOINT}"))
        return [spec for path in found if (spec := _read(path, EndpointSpec)) is not None]

    def endpoint(self, name: str) -> EndpointSpec:
        """Raises HeadgateError(ResourceNotFound)."""
        found = _read(self.root / name / ENDPOINT, EndpointSpec)
        if found is None:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no local endpoint {name!r}; create it with: "
                f"headgate online-endpoint create --local -n {name}",
            )
        return found

    def put_endpoint(self, spec: EndpointSpec) -> None:
        private_dir(self.root)
        private_dir(self.root / spec.name)
        write_atomic(self.root / spec.name / ENDPOINT, spec.model_dump_json())

    def remove_endpoint(self, name: str) -> None:
        remove_tree(self.root / name)

    # --- deployments ---------------------------------------------------------------------------

    def deployments(self, endpoint: str) -> list[Kept]:
        found = sorted((self.root / endpoint).glob(f"*/{DEPLOYMENT}"))
        return [kept for path in found if (kept := _read(path, Kept)) is not None]

    def deployment(self, endpoint: str, name: str) -> Kept:
        """Raises HeadgateError(ResourceNotFound)."""
        found = _read(self.of(endpoint, name) / DEPLOYMENT, Kept)
        if found is None:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"the local endpoint {endpoint!r} has no deployment {name!r}",
            )
        return found

    def put_deployment(self, kept: Kept) -> None:
        folder = private_dir(self.of(kept.spec.endpoint_name, kept.spec.name))
        write_atomic(folder / DEPLOYMENT, kept.model_dump_json())

    def remove_deployment(self, endpoint: str, name: str) -> None:
        remove_tree(self.of(endpoint, name))

    def chosen(self, endpoint: str, name: str) -> Kept:
        """The deployment of that name, or the only one when none is named."""
        self.endpoint(endpoint)
        if name:
            return self.deployment(endpoint, name)
        found = self.deployments(endpoint)
        if len(found) == 1:
            return found[0]
        names = ", ".join(each.spec.name for each in found)
        said = f"has several deployments ({names}); name one" if found else "has no deployment"
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT if found else ErrorCode.RESOURCE_NOT_FOUND,
            f"the local endpoint {endpoint!r} {said}",
        )


def _read(path: Path, model: type[V]) -> V | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
