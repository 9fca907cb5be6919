"""Settings: four sources, one order, errors that name setting and source."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.runtime import settings
from headgate_contracts.errors import HeadgateError


def test_precedence_is_command_line_environment_file_default(data_dir: Path) -> None:
    (data_dir / "headgate.yaml").write_text("port: 1001\nscoring_port: 1001\nworkspace: file\n")
    env = {"HEADGATE_PORT": "1002", "HEADGATE_SCORING_PORT": "1002"}
    chosen = settings.load({"data": data_dir, "port": 1003}, environ=env)
    assert (chosen.port, chosen.scoring_port, chosen.workspace) == (1003, 1002, "file")
    assert chosen.log_level == "INFO"


def test_a_value_not_given_on_the_command_line_does_not_hide_others(data_dir: Path) -> None:
    env = {"HEADGATE_PORT": "1002"}
    assert settings.load({"data": data_dir, "port": None}, environ=env).port == 1002


@pytest.mark.parametrize(
    ("given", "environ", "file", "message"),
    [
        ({"port": 70000}, {}, "", r"'port' \(command line\).*65535"),
        ({}, {"HEADGATE_PORT": "many"}, "", r"'port' \(environment\)"),
        ({}, {}, "prot: 1", r"'prot' \(.*headgate.yaml\)"),
        ({"http": True, "host": "0.0.0.0"}, {}, "", r"'host' \(command line\): plain HTTP"),
        ({}, {}, "- a list", "must hold a mapping"),
        ({}, {}, "a: [", "not valid YAML"),
    ],
)
def test_errors_name_the_setting_and_its_source(
    data_dir: Path, given: dict[str, object], environ: dict[str, str], file: str, message: str
) -> None:
    (data_dir / "headgate.yaml").write_text(file)
    with pytest.raises(HeadgateError, match=message):
        settings.load({"data": data_dir, **given}, environ=environ)


def test_a_named_file_must_exist(data_dir: Path) -> None:
    with pytest.raises(HeadgateError, match="does not exist"):
        settings.load({"data": data_dir}, environ={}, config=data_dir / "other.yaml")


def test_the_data_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.chdir(data_dir)
    assert settings.load({"data": Path("here")}, environ={}).data == data_dir / "here"


def test_child_processes_get_the_same_settings(data_dir: Path) -> None:
    chosen = settings.load(
        {"data": data_dir, "port": 1, "http": True, "nats": "nats://x:1"}, environ={}
    )
    assert settings.load({}, environ=chosen.to_environ()) == chosen
