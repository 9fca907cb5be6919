"""``headgate.azure.credential``: tokens in exchange for one's own, kept, renewed, refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from azure.core.credentials import SupportsTokenInfo, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError

from acceptance.system import Headgate, environment
from headgate.azure import credential, env
from headgate.azure.sdk import HeadgateCredential
from headgate.client import find_target, logins
from headgate.runtime.clock import SystemClock
from headgate_contracts.errors import HeadgateError

CONTROL = "https://management.azure.com/.default"
DATA = "https://ml.azure.com/.default"


class SetClock:
    """Shows the time that the test says."""

    def __init__(self) -> None:
        self.later_s = 0.0

    def __call__(self) -> float:
        return SystemClock().now() + self.later_s

    def set(self, at: float) -> None:
        self.later_s = at - SystemClock().now()


def test_tokens_are_kept_per_audience_and_renewed_at_half_of_their_life(
    headgate: Headgate,
) -> None:
    clock = SetClock()
    with HeadgateCredential(find_target(headgate.data), clock=clock) as tokens:
        assert isinstance(tokens, TokenCredential) and isinstance(tokens, SupportsTokenInfo)
        first = tokens.get_token_info(CONTROL)
        assert first.token.count(".") == 2
        assert first.refresh_on is not None and clock() < first.refresh_on < first.expires_on
        assert tokens.get_token(CONTROL, claims=None, tenant_id="x").token == first.token
        assert tokens.get_token("https://management.azure.com//.default").token == first.token
        assert tokens.get_token(DATA).token != first.token
        clock.set(first.refresh_on + 1)
        assert tokens.get_token(CONTROL).token != first.token
        assert first.token not in repr(tokens)


def test_without_arguments_the_environment_or_the_login_leads(
    headgate: Headgate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = find_target(headgate.data)
    with monkeypatch.context() as patch:
        patch.setenv("HEADGATE_URL", found.url)
        patch.setenv("HEADGATE_CA", str(found.ca))
        patch.setenv("HEADGATE_TOKEN_FILE", str(headgate.data / "keys" / "admin.token"))
        with credential() as tokens:
            assert tokens.get_token(CONTROL).token
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    logins.save(logins.Login(found.url, found.token, found.ca))
    with credential() as tokens:
        assert tokens.get_token(CONTROL).token


def test_many_threads_share_one_exchange(headgate: Headgate) -> None:
    found: list[str] = []
    with credential(data=headgate.data) as tokens:
        threads = [
            threading.Thread(target=lambda: found.append(tokens.get_token(CONTROL).token))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_wrong_token_and_a_strange_audience_are_refused_by_name(headgate: Headgate) -> None:
    with credential(data=headgate.data, token="nobody") as tokens:
        with pytest.raises(ClientAuthenticationError, match="gives no token") as caught:
            tokens.get_token(CONTROL)
        assert "nobody" not in str(caught.value)
        with pytest.raises(ClientAuthenticationError, match="vault"):
            tokens.get_token("https://vault.azure.net/.default")
        with pytest.raises(ClientAuthenticationError, match="one scope"):
            tokens.get_token()


@pytest.mark.slow
def test_an_old_token_serves_on_while_the_gateway_is_away(private_headgate: Headgate) -> None:
    private_headgate.start()
    clock = SetClock()
    with HeadgateCredential(find_target(private_headgate.data), clock=clock) as tokens:
        first = tokens.get_token_info(CONTROL)
        private_headgate.stop()
        assert first.refresh_on is not None
        clock.set(first.refresh_on + 1)
        assert tokens.get_token(CONTROL).token == first.token
        clock.set(first.expires_on)
        with pytest.raises(AzureError):
            tokens.get_token(CONTROL)


def test_plain_http_is_refused_before_azure_does(headgate: Headgate) -> None:
    target = dataclasses.replace(find_target(headgate.data), url="http://127.0.0.1:1")
    with pytest.raises(HeadgateError, match="start Headgate without --http"):
        HeadgateCredential(target)
    with pytest.raises(HeadgateError, match="start Headgate without --http"):
        env.variables(target, headgate.data)


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["azure"] = None
from headgate_contracts.errors import HeadgateError
import headgate.azure
try:
    headgate.azure.ml_client()
except HeadgateError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "pip install 'headgate[azure]'" in done.stdout
