"""Certificates: trusted once, good for our names, renewed in time, refused otherwise."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from headgate.runtime import tls
from headgate_contracts.errors import ErrorCode, HeadgateError

NOW = datetime.now(UTC)


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> ssl.SSLObject:
    """A whole TLS handshake in memory; raises what the client or the server raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends[0]


def server_certificate(made: tls.Tls) -> x509.Certificate:
    return x509.load_pem_x509_certificates(made.server.read_bytes())[0]


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "digits.headgate.localhost", "bus.example"]
)
def test_our_names_are_trusted_by_our_client(data_dir: Path, name: str) -> None:
    """Every way to reach this machine, an endpoint's host name, and a name from the settings."""
    made = tls.ensure(data_dir / "tls", now=NOW, extra_names=["bus.example"])
    session = handshake(made.server_context(), tls.client_context(made.ca), name)
    assert session.version() == "TLSv1.3"


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2", "a.b.headgate.localhost"])
def test_other_names_are_refused(data_dir: Path, name: str) -> None:
    made = tls.ensure(data_dir / "tls", now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(made.server_context(), tls.client_context(made.ca), name)


def test_another_authority_is_refused(data_dir: Path) -> None:
    """Trust in one installation is no trust in another, and the system's trust is not used."""
    made, other = (tls.ensure(data_dir / name, now=NOW) for name in ("a", "b"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made.server_context(), tls.client_context(other.ca))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made.server_context(), ssl.create_default_context())


def test_an_ended_certificate_is_refused(data_dir: Path) -> None:
    made = tls.ensure(data_dir / "tls", now=NOW - timedelta(days=400))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(made.server_context(), tls.client_context(made.ca))


def test_old_protocols_are_refused(data_dir: Path) -> None:
    """TLS 1.1 and older do not connect, whichever side offers them."""
    made = tls.ensure(data_dir / "tls", now=NOW)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(made.ca)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        handshake(made.server_context(), old)
    assert tls.client_context(made.ca).minimum_version == ssl.TLSVersion.TLSv1_2


def test_strict_verification_passes(data_dir: Path) -> None:
    """Python 3.13 asks for a well-formed chain (RFC 5280) by default."""
    made = tls.ensure(data_dir / "tls", now=NOW)
    client = tls.client_context(made.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    handshake(made.server_context(), client)


def test_a_second_start_changes_nothing(data_dir: Path) -> None:
    first = tls.ensure(data_dir / "tls", now=NOW)
    files = {path: path.read_bytes() for path in first.ca.parent.iterdir()}
    assert tls.ensure(data_dir / "tls", now=NOW + timedelta(days=300)) == first
    assert files == {path: path.read_bytes() for path in first.ca.parent.iterdir()}


def test_the_server_certificate_is_renewed_and_the_authority_stays(data_dir: Path) -> None:
    """Renewed within 30 days of its end; a client that trusts the authority notices nothing."""
    made = tls.ensure(data_dir / "tls", now=NOW - timedelta(days=368))
    authority, before = made.ca.read_bytes(), server_certificate(made)
    client, server = tls.client_context(made.ca), made.server_context()
    tls.ensure(data_dir / "tls", now=NOW)
    after = server_certificate(made)
    assert after.not_valid_after_utc - NOW > timedelta(days=390)
    assert after.serial_number != before.serial_number
    assert made.ca.read_bytes() == authority
    made.load_into(server)  # a listener that stays open gets the new one
    shown = handshake(server, client).getpeercert(binary_form=True)
    assert shown is not None
    assert x509.load_der_x509_certificate(shown).serial_number == after.serial_number


def test_new_names_make_a_new_certificate(data_dir: Path) -> None:
    made = tls.ensure(data_dir / "tls", now=NOW)
    authority = made.ca.read_bytes()
    tls.ensure(data_dir / "tls", now=NOW, extra_names=["10.1.2.3"])
    handshake(made.server_context(), tls.client_context(made.ca), "10.1.2.3")
    assert made.ca.read_bytes() == authority


def test_the_authority_is_renewed_with_the_same_key(data_dir: Path) -> None:
    """After ten years clients that trust the old certificate still accept ours by its key."""
    made = tls.ensure(data_dir / "tls", now=NOW - timedelta(days=3630))
    old = x509.load_pem_x509_certificate(made.ca.read_bytes())
    tls.ensure(data_dir / "tls", now=NOW)
    new = x509.load_pem_x509_certificate(made.ca.read_bytes())
    assert (new.subject, new.public_key()) == (old.subject, old.public_key())
    handshake(made.server_context(), tls.client_context(made.ca))


def test_private_keys_are_private(data_dir: Path) -> None:
    """0600, also where rights had been widened; only the authority's certificate is public."""
    folder = data_dir / "tls"
    tls.ensure(folder, now=NOW)
    for name in ("ca.key", "server.pem"):
        (folder / name).chmod(0o644)
    tls.ensure(folder, now=NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "server.pem": 0o600}


def test_a_damaged_server_file_is_made_anew(data_dir: Path) -> None:
    made = tls.ensure(data_dir / "tls", now=NOW)
    made.server.write_text("cut off")
    tls.ensure(data_dir / "tls", now=NOW)
    handshake(made.server_context(), tls.client_context(made.ca))


@pytest.mark.parametrize("damage", ["lost", "garbage"])
def test_a_damaged_authority_key_is_never_replaced_silently(data_dir: Path, damage: str) -> None:
    """A new authority would be trusted by no client; the error says what can be done."""
    folder = data_dir / "tls"
    tls.ensure(folder, now=NOW)
    authority = (folder / "ca.pem").read_bytes()
    if damage == "lost":
        (folder / "ca.key").unlink()
    else:
        (folder / "ca.key").write_text("garbage")
    with pytest.raises(HeadgateError, match="backup; or delete"):
        tls.ensure(folder, now=NOW)
    assert (folder / "ca.pem").read_bytes() == authority


def test_a_name_that_cannot_stand_in_a_certificate_is_named(data_dir: Path) -> None:
    with pytest.raises(HeadgateError, match="bücher") as caught:
        tls.ensure(data_dir / "tls", now=NOW, extra_names=["bücher.example"])
    assert caught.value.error.code == ErrorCode.BAD_ARGUMENT
