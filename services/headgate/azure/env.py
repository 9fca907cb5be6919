"""What other programs read from their environment to reach a Headgate with Azure's libraries.

``azure-ai-ml`` takes its address from ``AZUREML_DEV_URL_MFE``; ``DefaultAzureCredential`` takes
tokens from where ``IDENTITY_ENDPOINT`` points, as it does inside Azure's own services; and
``requests``, on which both stand, trusts the authorities of ``REQUESTS_CA_BUNDLE``.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import ssl
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path

from headgate.azure.arm_ids import Context
from headgate.client.target import Target
from headgate.runtime.files import PUBLIC_FILE, write_atomic
from headgate.runtime.settings import ca_bundle, config_dir
from headgate_contracts.errors import ErrorCode, HeadgateError

TOKEN_PATH = "/oauth2/token"
_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s.+?\s-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)


def variables(
    target: Target, data: Path | None, *, subscription: str = "", resource_group: str = ""
) -> dict[str, str]:
    """Name and value of each variable. One holds a secret: the token of ``target``."""
    require_tls(target)
    place = Context(target.workspace)
    subscription = subscription or place.subscription
    resource_group = resource_group or place.resource_group
    found = {
        "AZUREML_DEV_URL_MFE": target.url,
        "AZURE_SUBSCRIPTION_ID": subscription,
        "AZUREML_ARM_SUBSCRIPTION": subscription,
        "AZUREML_ARM_RESOURCEGROUP": resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": target.workspace,
        # Without it a service principal of the same shell would be asked before.
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "IDENTITY_ENDPOINT": f"{target.url}{TOKEN_PATH}",
        "IDENTITY_HEADER": target.token,
    }
    if bundle := trust_bundle(target, data):
        found["REQUESTS_CA_BUNDLE"] = str(bundle)
    return found


def require_tls(target: Target) -> None:
    """Azure's clients send tokens over TLS only, so there is no use in trying."""
    if not target.url.startswith("https:"):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{target.url} speaks plain HTTP, over which Azure's clients send no token; "
            "start Headgate without --http",
        )


def trust_bundle(target: Target, data: Path | None) -> Path | None:
    """A file with all authorities trusted so far and Headgate's own; None when it needs none.

    The variable replaces the authorities that a program trusts, so the file must hold both:
    the program goes on to reach everything else that it reached before. It lies in the data
    folder that was named, or where logins are kept.
    """
    if target.ca is None:
        return None
    own = target.ca.read_text(encoding="ascii")
    kept = _trusted_so_far()
    both = "\n".join(dict.fromkeys([*_PEM.findall(kept), *_PEM.findall(own)])) + "\n"
    folder = (data or config_dir()).expanduser().absolute() / "azure"
    path = folder / f"trust-{hashlib.sha256(both.encode()).hexdigest()[:16]}.pem"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, both, mode=PUBLIC_FILE)
    return path


def _trusted_so_far() -> str:
    """The authorities that ``requests`` trusts at present, as PEM."""
    chosen = ca_bundle()
    if chosen and Path(chosen).is_file():
        return Path(chosen).read_text(encoding="utf-8", errors="replace")
    if util.find_spec("certifi"):
        import certifi

        return certifi.contents()
    system = ssl.get_default_verify_paths().cafile
    return Path(system).read_text(encoding="utf-8", errors="replace") if system else ""


def for_bash(found: Mapping[str, str]) -> str:
    """Lines for ``eval "$(headgate azure-env)"``, in any POSIX shell."""
    return _lines(found, lambda name, text: f"export {name}={shlex.quote(text)}")


def for_powershell(found: Mapping[str, str]) -> str:
    """Lines for ``headgate azure-env --shell powershell | Out-String | Invoke-Expression``."""
    return _lines(found, lambda name, text: f"$env:{name} = '{text.replace(chr(39), chr(39) * 2)}'")


def _lines(found: Mapping[str, str], line: Callable[[str, str], str]) -> str:
    return "".join(f"{line(name, text)}\n" for name, text in found.items())
