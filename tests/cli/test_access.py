"""Logging in, tokens and identities from the command line, and which Headgate a command means."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.system import System
from cli.terminal import PROGRAM, Ran, headgate
from headgate.client.target import find_target, read_running
from headgate_contracts.errors import HeadgateError

Command = Callable[..., Ran]
Unique = Callable[[str], str]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the login of this test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "headgate" / "login.json"


def make_token(cli: Command, name: str, *flags: str) -> dict[str, Any]:
    document: dict[str, Any] = cli("token", "create", name, *flags).document
    return document


def token_file(folder: Path, token: str) -> Path:
    path = folder / "token"
    path.write_text(token)
    path.chmod(0o600)
    return path


@pytest.fixture
def reader(cli: Command, unique: Unique) -> str:
    """A token that reads in the workspace local."""
    secret: str = make_token(cli, unique("reader"), "--role", "reader")["token"]
    return secret


def log_in(system: System, token: str, *flags: str | Path) -> Ran:
    """Logs in by address, as on another machine."""
    running = read_running(system.data)
    place = token_file(system.data, token)
    at = ("--url", running["gateway"], "--ca", running["ca"])
    return headgate("login", *at, "--token-file", place, *flags)


# --- login --------------------------------------------------------------------------------------


def test_a_login_is_checked_kept_and_used(
    system: System, reader: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = log_in(system, reader)
    assert ran.code == 0, ran.err
    assert ran.document["grants"] == ["local/reader"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert reader not in ran.out + ran.err
    monkeypatch.delenv("HEADGATE_DATA")
    assert headgate("whoami").document["grants"] == ["local/reader"]
    assert headgate("online-endpoint", "list").code == 0
    assert headgate("online-endpoint", "list", "-w", "elsewhere").code == 4
    assert headgate("online-endpoint", "create", "-n", "abc").code == 3
    assert headgate("logout").code == 0
    assert not config.exists()
    assert "there was no login" in headgate("logout").err


def test_the_workspace_of_a_login_is_one_in_which_its_token_has_a_role(
    system: System, reader: str, cli: Command, unique: Unique, config: Path
) -> None:
    refused = log_in(system, reader, "--workspace", "elsewhere")
    assert refused.code == 3
    assert "no role in the workspace 'elsewhere', but local/reader" in refused.err
    assert not config.exists()
    guest = ("--role", "reader", "--workspace", "elsewhere", "--workspace", "there")
    secret = make_token(cli, unique("guest"), *guest)["token"]
    assert log_in(system, secret, "-w", "there").code == 0
    assert json.loads(config.read_text())["workspace"] == "there"
    assert "workspace elsewhere" in log_in(system, secret).err
    assert log_in(system, secret, "-w", "local").code == 3


def test_what_is_no_file_with_a_token_is_not_to_be_made_private(
    system: System, tmp_path: Path
) -> None:
    url = read_running(system.data)["gateway"]
    for place in (tmp_path, Path(os.devnull)):
        ran = headgate("login", "--url", url, "--token-file", place)
        assert ran.code == 3
        assert "is no file" in ran.err and "chmod" not in ran.err
    assert "is not a file" in headgate("login", "--url", url, "--ca", tmp_path).err


def test_a_wrong_token_is_not_kept(system: System, config: Path) -> None:
    ran = log_in(system, "wrong")
    assert (ran.code, ran.out) == (3, "")
    assert not config.exists()


def test_without_a_terminal_and_a_token_nothing_is_asked(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = read_running(system.data)["gateway"]
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        ran = headgate("login", "--url", url)
    assert ran.code == 2
    assert "--token-file" in ran.err


def test_on_a_terminal_the_token_is_asked_for_and_not_shown(
    system: System, reader: str, config: Path
) -> None:
    running = read_running(system.data)
    leader, follower = pty.openpty()
    command = [str(PROGRAM), "login", "--url", running["gateway"], "--ca", running["ca"]]
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    ) as process:
        os.close(follower)
        try:
            shown = b""
            while b"Token for" not in shown:
                shown += os.read(leader, 4_096)
            os.write(leader, reader.encode() + b"\n")
            while chunk := _read(leader):
                shown += chunk
            assert process.wait(30) == 0, shown
        finally:
            process.kill()
    os.close(leader)
    assert reader.encode() not in shown
    assert json.loads(config.read_text())["token"] == reader


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4_096)
    except OSError:  # the other side of a terminal has gone
        return b""


def test_a_login_that_others_can_read_is_refused(
    system: System, reader: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(system, reader)
    config.chmod(0o644)
    monkeypatch.delenv("HEADGATE_DATA")
    ran = headgate("whoami")
    assert ran.code == 3
    assert "chmod 600" in ran.err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', "not json"])
def test_a_broken_login_is_told(config: Path, text: str) -> None:
    config.parent.mkdir(parents=True)
    config.write_text(text)
    config.chmod(0o600)
    with pytest.raises(HeadgateError, match="headgate login"):
        find_target(None)


def test_what_is_given_wins_over_the_login(
    system: System, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address by hand, data folder by hand, login, the usual data folder."""
    log_in(system, reader)
    data, url = system.data, read_running(system.data)["gateway"]
    assert find_target(None).token == reader
    assert find_target(None, url=url).token == reader, "of its own address it knows the token"
    assert find_target(None, token="other").token == "other"
    assert find_target(data).token != reader
    with pytest.raises(HeadgateError, match="headgate login"):
        find_target(None, url="https://localhost:1")
    headgate("logout")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(HeadgateError, match="headgate up"):
        find_target(None)


# --- tokens and identities ----------------------------------------------------------------------


def test_a_token_is_made_listed_used_and_revoked(
    cli: Command, system: System, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = unique("ci")
    ran = cli(
        "token", "create", name, "--role", "operator", "-w", "one", "-w", "two", "--expires", "12h"
    )
    made = ran.document
    assert "only time" in ran.err
    assert made["grants"] == ["one/operator", "two/operator"]
    listed = {each["id"]: each for each in cli("token", "list").document}
    assert listed[made["id"]]["name"] == name
    assert listed[made["id"]]["created_by"] == "admin"
    assert "token" not in listed[made["id"]]
    cli("token", "revoke", made["id"], "--yes")
    monkeypatch.setenv("HEADGATE_TOKEN", made["token"])
    until = time.monotonic() + 10
    while headgate("whoami").code != 3:
        assert time.monotonic() < until
    monkeypatch.delenv("HEADGATE_TOKEN")
    assert headgate("token", "revoke", "no-such-token", "--yes").code == 4


def test_what_a_token_cannot_be_is_refused(cli: Command, reader: str) -> None:
    assert headgate("token", "create", "abc", "--role", "reader", "--expires", "soon").code == 2
    assert headgate("token", "create", "abc", "--role", "king").code == 2
    assert headgate("token", "create", "a b", "--role", "reader").code == 2
    assert headgate("token", "create", "abc", "--role", "reader", "--expires", "9999d").code == 2


def test_roles_end_with_the_code_of_missing_rights(
    cli: Command, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", reader)
    assert headgate("online-endpoint", "list").code == 0
    ran = headgate("token", "create", "abc", "--role", "reader")
    assert ran.code == 3
    assert "owner" in ran.err


def test_identities_are_made_listed_shown_and_deleted(cli: Command, unique: Unique) -> None:
    name = unique("id")
    made = cli("identity", "create", "-n", name, "--grant", "local/reader").document
    assert made["grants"] == ["local/reader"]
    assert cli("identity", "show", "-n", name).document == made
    assert name in [each["name"] for each in cli("identity", "list").document]
    cli("identity", "delete", "-n", name, "--yes")
    for command in ("show", "delete"):
        flags = ["--yes"] if command == "delete" else []
        assert headgate("identity", command, "-n", name, *flags).code == 4


# --- credentials of endpoints -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["aml_token", "aad_token"])
def test_credentials_of_a_token_endpoint_are_a_token(
    cli: Command, system: System, unique: Unique, tmp_path: Path, mode: str
) -> None:
    name = unique("ep")
    cli("online-endpoint", "create", "-n", name, "--auth-mode", mode)
    found = cli("online-endpoint", "get-credentials", "-n", name).document
    assert found["accessToken"].count(".") == 2
    assert found["tokenType"] == "Bearer"
    assert found["expiryTimeUtc"] > time.time()
    assert ("refreshAfterTimeUtc" in found) == (mode == "aml_token")
    request = tmp_path / "request.json"
    request.write_text("{}")
    cli("online-endpoint", "invoke", "-n", name, "-r", request)
    shown = system.scored[-1]["headers"]["Authorization"]
    assert shown.count(".") == 2


# --- signing keys -------------------------------------------------------------------------------


def test_a_new_signing_key_leaves_tokens_alone_or_ends_them(
    cli: Command, system: System, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def works() -> bool:
        monkeypatch.setenv("HEADGATE_TOKEN", reader)
        ran = headgate("whoami")
        monkeypatch.delenv("HEADGATE_TOKEN")
        return ran.code == 0

    monkeypatch.setenv("HEADGATE_TOKEN", reader)
    refused = headgate("token", "rotate-signing-key", "--yes")
    monkeypatch.delenv("HEADGATE_TOKEN")
    assert refused.code == 3
    cli("token", "rotate-signing-key", "--yes")
    assert works()
    cli("token", "rotate-signing-key", "--drop-old", "--yes")
    deadline = time.monotonic() + 15
    while works():
        assert time.monotonic() < deadline, "the old token still counts"
        time.sleep(0.05)
