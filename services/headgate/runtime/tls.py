"""Certificates of the HTTP surfaces, from a certificate authority of this installation's own.

The authority is made on first start and stays, so that a client has to trust it only once. The
server's certificate is made anew when it nears its end or when the names change.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headgate.runtime.files import PRIVATE_FILE, PUBLIC_FILE, private_dir, write_atomic
from headgate.runtime.plain_http import ServerContext
from headgate_contracts.errors import ErrorCode, HeadgateError

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)  # browsers refuse longer ones
RENEW_BEFORE = timedelta(days=30)
# Clocks of clients may lag a little behind ours.
BACKDATED = timedelta(hours=1)
WILDCARD_DOMAIN = "headgate.localhost"


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of one installation. ``server`` holds the private key and the chain together."""

    ca: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        """For listeners: TLS 1.2 or newer; plain HTTP is told so."""
        context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Gives a listener's context the present certificate; open connections keep theirs."""
        context.load_cert_chain(self.server)


def client_context(ca: Path) -> ssl.SSLContext:
    """For our own clients: trusts this authority and no other, checks names, TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    return context


def default_names() -> tuple[str, ...]:
    """What this machine's Headgate is reached as without further settings."""
    return ("localhost", "127.0.0.1", "::1", socket.gethostname(), f"*.{WILDCARD_DOMAIN}")


def ensure(folder: Path, *, now: datetime, extra_names: Iterable[str] = ()) -> Tls:
    """The certificates in ``folder`` (``<data>/tls``), made or renewed where that is due.

    ``now`` must carry a time zone. Call it under the data folder's lock.
    """
    private_dir(folder)
    tls = Tls(ca=folder / "ca.pem", server=folder / "server.pem")
    names = tuple(dict.fromkeys((*default_names(), *extra_names)))
    key, authority = _ensure_authority(tls.ca, folder / "ca.key", now)
    present = _read_certificate(tls.server)
    if present is None or not _serves(present, authority, names, now):
        _write_server(tls.server, key, authority, names, now)
    tls.server.chmod(PRIVATE_FILE)
    return tls


def _serves(
    certificate: x509.Certificate,
    authority: x509.Certificate,
    names: tuple[str, ...],
    now: datetime,
) -> bool:
    """Whether a server certificate is of this authority, for these names, and for long enough."""
    try:
        certificate.verify_directly_issued_by(authority)
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        return False
    same_names = set(said) == set(_alternative_names(names))
    return same_names and now + RENEW_BEFORE < certificate.not_valid_after_utc


def _ensure_authority(
    path: Path, key_path: Path, now: datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The authority, made when there is none; its key stays even when its certificate ends."""
    key = _load_key(key_path)
    certificate = _read_certificate(path)
    if certificate is not None and certificate.public_key() != key.public_key():
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"{path} and {key_path} do not belong together. Put them back from a backup; or "
            f"delete {path.parent}, and new ones are made that clients have to trust anew",
            target=str(path),
        )
    if certificate is None or certificate.not_valid_after_utc <= now + RENEW_BEFORE:
        certificate = _make_authority(key, now)
        write_atomic(path, _pem(certificate), mode=PUBLIC_FILE)
    return key, certificate


def _make_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The start of the key's fingerprint tells the authorities of several installations apart.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Headgate"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Headgate CA {identifier.digest.hex()[:8]}"),
        ]
    )
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())


def _write_server(
    path: Path,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    names: tuple[str, ...],
    now: datetime,
) -> None:
    """One file for key and certificate: a crash cannot leave two that do not fit together."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Headgate")])
    life = min(SERVER_LIFE, authority.not_valid_after_utc - now)
    builder = _builder(subject, authority.subject, key.public_key(), now, life)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(_alternative_names(names)), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            False,
        ),
    ):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(authority_key, hashes.SHA256())
    write_atomic(path, _key_pem(key) + _pem(certificate) + _pem(authority))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    return [_alternative_name(name) for name in names]


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{name!r} is neither an address nor a host name in ASCII; it cannot stand in a "
            "certificate",
            target="host",
        ) from None


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The authority's key, made when there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomic(path, _key_pem(key))
        return key
    path.chmod(PRIVATE_FILE)
    try:
        loaded = serialization.load_pem_private_key(data, password=None)
    except ValueError:
        loaded = None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"{path} does not hold the key of the certificate authority. Put it back from a "
            f"backup; or delete {path.parent}, and a new one is made that clients have to trust",
            target=str(path),
        )
    return loaded


def _read_certificate(path: Path) -> x509.Certificate | None:
    """The first certificate of a file; None when there is none that can be read."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (FileNotFoundError, ValueError):
        return None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
