"""The commands against a real registry and gateway: effects, documents, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cli.system import BROKEN, FAILURE, SLOW, System
from cli.terminal import PROGRAM, Ran, headgate, line_with, started
from headgate.cli.errors import UsageError
from headgate.cli.invoking import read_request
from headgate.client.target import read_running
from headgate_contracts import limits

Command = Callable[..., Ran]
Unique = Callable[[str], str]


# --- endpoints ----------------------------------------------------------------------------------


def test_create_prints_the_endpoint_with_azures_field_names(cli: Command, unique: Unique) -> None:
    name = unique("ep")
    shown = cli("online-endpoint", "create", "-n", name, "--set", "tags.team=no").document
    assert shown["name"] == name
    assert shown["provisioning_state"] == "Succeeded"
    assert shown["scoring_uri"].endswith(f"/api/v1/endpoint/{name}/score")
    assert shown["openapi_uri"].endswith("/swagger.json")
    assert shown["auth_mode"] == "key"
    assert shown["tags"] == {"team": "no"}
    assert shown["traffic"] == {} and shown["mirror_traffic"] == {}
    assert shown["id"].endswith(f"/onlineEndpoints/{name}")


def test_creating_it_again_is_a_conflict(cli: Command, endpoint: str) -> None:
    ran = headgate("online-endpoint", "create", "-n", endpoint)
    assert (ran.code, ran.out) == (5, "")
    assert "ResourceAlreadyExists" in ran.err


def test_what_is_not_there_ends_with_4(system: System) -> None:
    for command in (
        ["online-endpoint", "show", "-n", "nobody"],
        ["online-endpoint", "delete", "-n", "nobody", "--yes"],
        ["online-endpoint", "get-credentials", "-n", "nobody"],
        ["online-deployment", "show", "-n", "blue", "-e", "nobody"],
        ["online-deployment", "get-logs", "-n", "blue", "-e", "nobody"],
        ["model", "show", "-n", "nobody"],
        ["environment", "show", "-n", "nobody", "-v", "3"],
    ):
        ran = headgate(*command)
        assert (ran.code, ran.out) == (4, ""), command
        assert "ResourceNotFound" in ran.err


def test_update_changes_what_is_mentioned_and_keeps_the_rest(cli: Command, endpoint: str) -> None:
    cli("online-endpoint", "update", "-n", endpoint, "--set", "tags.a=1", "tags.b=2")
    cli(
        "online-endpoint",
        "update",
        "-n",
        endpoint,
        "--set",
        "description=read",
        "--remove",
        "tags.a",
    )
    shown = cli("online-endpoint", "show", "-n", endpoint).document
    assert shown["tags"] == {"b": "2"}
    assert shown["description"] == "read"


def test_list_has_every_endpoint(cli: Command, endpoint: str) -> None:
    assert endpoint in [each["name"] for each in cli("online-endpoint", "list").document]


def test_a_deleted_endpoint_is_gone(cli: Command, endpoint: str) -> None:
    cli("online-endpoint", "delete", "-n", endpoint, "--yes")
    assert headgate("online-endpoint", "show", "-n", endpoint).code == 4


def test_keys_are_printed_and_regenerated_one_at_a_time(cli: Command, endpoint: str) -> None:
    before = cli("online-endpoint", "get-credentials", "-n", endpoint).document
    flags = ("--key-type", "secondary")
    after = cli("online-endpoint", "regenerate-keys", "-n", endpoint, *flags).document
    assert before.keys() == {"primaryKey", "secondaryKey"}
    assert after["primaryKey"] == before["primaryKey"]
    assert after["secondaryKey"] != before["secondaryKey"]


def test_a_refused_change_of_traffic_says_why(cli: Command, endpoint: str) -> None:
    ran = headgate("online-endpoint", "update", "-n", endpoint, "--traffic", "nobody=100")
    assert ran.code == 2
    assert "nobody" in ran.err


# --- deployments --------------------------------------------------------------------------------


def create(cli: Command, endpoint: str, *flags: str) -> Ran:
    return cli("online-deployment", "create", "-f", "blue.yml", "-e", endpoint, *flags)


def test_a_deployment_is_uploaded_registered_and_given_all_traffic(
    cli: Command, endpoint: str, folder: Path
) -> None:
    # Content that nobody has uploaded yet, or there would be nothing to upload.
    (folder / "code" / "new.py").write_text(f"# {endpoint}\n")
    (folder / "model" / "weights.bin").write_text(endpoint)
    ran = create(cli, endpoint, "--all-traffic")
    shown = ran.document
    assert (shown["provisioning_state"], shown["ready_instances"]) == ("Succeeded", 2)
    assert shown["model"].startswith("azureml:") and shown["model"].endswith(":1")
    assert shown["code_configuration"]["scoring_script"] == "score.py"
    assert shown["request_settings"]["request_timeout_ms"] == 5_000
    assert cli("online-endpoint", "show", "-n", endpoint).document["traffic"] == {"blue": 100}
    for part in ("uploading code", "uploading model", "creating deployment blue"):
        assert part in ran.err


def test_instance_types_are_listed_and_others_refused(
    cli: Command, endpoint: str, folder: Path
) -> None:
    sizes = {each["name"]: each for each in cli("instance-type", "list").document}
    assert sizes["tiny"]["cores"] == 0.25
    azures = sizes["Standard_DS3_v2"]
    assert (azures["memory_gib"], azures["elastic"], azures["currency"]) == (14, True, "USD")
    blue = (folder / "blue.yml").read_text()
    (folder / "odd.yml").write_text(f"{blue}instance_type: Standard_DS3v2\n")
    ran = headgate("online-deployment", "create", "-f", "odd.yml", "-e", endpoint)
    assert ran.code == 2
    assert "Standard_DS3_v2 or" in ran.err
    assert "Traceback" not in ran.err


def test_all_traffic_takes_it_from_the_others(cli: Command, endpoint: str, folder: Path) -> None:
    create(cli, endpoint, "--all-traffic")
    create(cli, endpoint, "-n", "green")
    shown = cli("online-endpoint", "show", "-n", endpoint).document
    assert shown["traffic"] == {"blue": 100, "green": 0}
    create(cli, endpoint, "-n", "red", "--all-traffic")
    shown = cli("online-endpoint", "show", "-n", endpoint).document
    assert shown["traffic"] == {"blue": 0, "green": 0, "red": 100}


def test_traffic_and_mirror_are_set_as_az_sets_them(
    cli: Command, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint)
    create(cli, endpoint, "-n", "green")
    update = ("online-endpoint", "update", "-n", endpoint)
    cli(*update, "--traffic", "blue=90 green=10")
    shown = cli(*update, "--traffic", "blue=100", "--mirror-traffic", "green=10").document
    assert shown["traffic"]["blue"] == 100
    assert shown["mirror_traffic"] == {"green": 10}
    shown = cli(*update, "--mirror-traffic", "green=0").document
    assert shown["mirror_traffic"].get("green", 0) == 0


def test_what_is_stored_already_is_not_sent_again(
    cli: Command, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint)
    assert "uploading" not in create(cli, endpoint, "-n", "green").err


def test_update_scales_and_keeps_the_rest(cli: Command, endpoint: str, folder: Path) -> None:
    before = create(cli, endpoint).document
    flags = ("-n", "blue", "-e", endpoint, "--set", "instance_count=3")
    after = cli("online-deployment", "update", *flags).document
    assert (after["instance_count"], after["ready_instances"]) == (3, 3)
    for kept in ("model", "environment", "code_configuration", "request_settings"):
        assert after[kept] == before[kept]


def test_stop_and_start_take_a_deployment_or_a_whole_endpoint(
    cli: Command, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint)
    create(cli, endpoint, "-n", "green")
    one = cli("online-deployment", "stop", "-n", "blue", "-e", endpoint).document
    assert (one["power_state"], one["ready_instances"]) == ("Stopped", 0)
    states = [
        each["power_state"] for each in cli("online-endpoint", "stop", "-n", endpoint).document
    ]
    assert states == ["Stopped", "Stopped"]
    states = [
        each["power_state"] for each in cli("online-endpoint", "start", "-n", endpoint).document
    ]
    assert states == ["Running", "Running"]


def test_update_from_a_file_uploads_what_changed(cli: Command, endpoint: str, folder: Path) -> None:
    before = create(cli, endpoint).document
    (folder / "code" / "score.py").write_text("def init(): ...\ndef run(data): return 1\n")
    after = cli("online-deployment", "update", "-f", "blue.yml", "-e", endpoint).document
    assert after["code_configuration"]["code"] != before["code_configuration"]["code"]
    assert after["model"] == before["model"]


def test_a_failed_deployment_tells_the_scripts_own_line_and_where_to_look(
    cli: Command, endpoint: str, folder: Path
) -> None:
    flags = ("-f", "blue.yml", "-e", endpoint, "--set", f"description={BROKEN}")
    ran = headgate("online-deployment", "create", *flags)
    assert (ran.code, ran.out) == (1, "")
    assert "UserScriptImportError" in ran.err and FAILURE in ran.err
    assert f"headgate online-deployment get-logs -n blue -e {endpoint}" in ran.err
    shown = cli("online-deployment", "show", "-n", "blue", "-e", endpoint).document
    assert shown["provisioning_state"] == "Failed"
    assert shown["error"] == {"code": "UserScriptImportError", "message": FAILURE}


def test_nothing_is_uploaded_for_a_deployment_that_exists_or_has_no_endpoint(
    cli: Command, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint)
    (folder / "code" / "new.py").write_text("")
    for flags, code in ((("-e", endpoint), 5), (("-e", "nobody"), 4)):
        ran = headgate("online-deployment", "create", "-f", "blue.yml", *flags)
        assert ran.code == code
        assert "uploading" not in ran.err


def test_a_deployment_with_traffic_is_not_deleted_another_is(
    cli: Command, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint, "--all-traffic")
    create(cli, endpoint, "-n", "green")
    delete = ("online-deployment", "delete", "-e", endpoint, "--yes", "-n")
    assert headgate(*delete, "blue").code in (1, 5)
    cli(*delete, "green")
    left = cli("online-deployment", "list", "-e", endpoint).document
    assert [each["name"] for each in left] == ["blue"]


def test_no_wait_names_the_operation(cli: Command, endpoint: str, folder: Path) -> None:
    ran = create(cli, endpoint, "--no-wait", "--set", f"description={SLOW}")
    assert ran.out == ""
    assert "operation" in ran.err and "is under way" in ran.err


def test_logs_are_printed_tailed_and_followed(
    cli: Command, system: System, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint)
    logs = ("online-deployment", "get-logs", "-n", "blue", "-e", endpoint)
    assert cli(*logs).out.splitlines() == system.log
    assert cli(*logs, "-l", "2").out.splitlines() == system.log[-2:]
    with started(*logs, "-f", "-l", "1") as following:
        line_with(following.stdout, system.log[-1].encode())
        system.log.append("fresh from the model")
        line_with(following.stdout, b"fresh from the model")
        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=20)
    assert following.returncode == 130
    assert b"Traceback" not in err


def test_instances_and_observed_traffic_are_shown(
    cli: Command, endpoint: str, folder: Path
) -> None:
    create(cli, endpoint)
    (one,) = cli("online-deployment", "instances", "-n", "blue", "-e", endpoint).document
    assert (one["id"], one["state"], one["pid"]) == ("i-1", "ready", 42)
    (row,) = cli("online-endpoint", "traffic", "-n", endpoint).document
    assert row["deployment"] == "blue"
    assert (row["requests"], row["statuses"]) == (4, {"200": 4})
    assert "p50_ms" in row and "p99_ms" in row


# --- scoring ------------------------------------------------------------------------------------


def invoke(endpoint: str, said: dict[str, object], folder: Path, *flags: str) -> Ran:
    (folder / "request.json").write_text(json.dumps(said))
    return headgate("online-endpoint", "invoke", "-n", endpoint, "-r", "request.json", *flags)


def test_a_request_may_be_as_large_as_the_edge_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "request.bin"
    with file.open("wb") as body:
        body.truncate(limits.BODY_BYTES_MAX)
        assert len(read_request(file)) == limits.BODY_BYTES_MAX
        body.truncate(limits.BODY_BYTES_MAX + 1)
        with pytest.raises(UsageError, match="104,857,600 bytes"):
            read_request(file)


def test_invoke_sends_the_file_with_the_key_and_prints_the_body(
    cli: Command, system: System, endpoint: str, folder: Path
) -> None:
    ran = invoke(endpoint, {"body": "[4, 8]"}, folder, "-d", "green")
    assert (ran.code, ran.out) == (0, "[4, 8]")
    key = cli(
        "online-endpoint", "get-credentials", "-n", endpoint, "--query", "primaryKey", "-o", "tsv"
    )
    headers = system.scored[-1]["headers"]
    assert headers["Authorization"] == f"Bearer {key.out.strip()}"
    assert headers["azureml-model-deployment"] == "green"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(("status", "code"), [(401, 3), (404, 4), (408, 6), (424, 1), (503, 1)])
def test_a_refused_request_ends_with_a_code_and_the_reason(
    system: System, endpoint: str, folder: Path, status: int, code: int
) -> None:
    said = {
        "status": status,
        "body": "the reason",
        "headers": {"ms-azureml-model-error-statuscode": "500"},
    }
    ran = invoke(endpoint, said, folder)
    assert (ran.code, ran.out) == (code, "")
    assert str(status) in ran.err and "the reason" in ran.err and "answered 500" in ran.err


def test_stdin_is_a_request_too(system: System, endpoint: str) -> None:
    done = subprocess.run(
        [PROGRAM, "online-endpoint", "invoke", "-n", endpoint, "-r", "-"],
        input=b'{"body": "\\u00e9 is not ASCII"}',
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == "é is not ASCII", done.stderr


# --- assets -------------------------------------------------------------------------------------


def test_models_get_versions_only_when_they_change(
    cli: Command, unique: Unique, folder: Path
) -> None:
    name = unique("m")
    flags = ("model", "create", "-n", name, "--path", "model")
    assert cli(*flags).document["version"] == "1"
    assert cli(*flags).document["version"] == "1"
    (folder / "model" / "weights.bin").write_bytes(b"5678")
    assert cli(*flags).document["version"] == "2"
    listed = cli("model", "list", "-n", name).document
    assert [each["version"] for each in listed] == ["2", "1"]
    assert cli("model", "show", "-n", name).document["version"] == "2"
    assert cli("model", "show", "-n", name, "-v", "1").document["version"] == "1"
    names = [each["name"] for each in cli("model", "list").document]
    assert name in names


def test_a_version_that_exists_with_other_content_is_a_conflict(
    cli: Command, unique: Unique, folder: Path
) -> None:
    flags = ("model", "create", "-n", unique("m"), "-v", "7", "--path", "model")
    cli(*flags)
    (folder / "model" / "weights.bin").write_bytes(b"5678")
    assert headgate(*flags).code == 5


def test_environments_are_registered_and_referred_to(
    cli: Command, unique: Unique, endpoint: str, folder: Path
) -> None:
    name = unique("env")
    shown = cli("environment", "create", "-n", name, "--conda-file", "conda.yml").document
    assert (shown["version"], shown["conda_file"]) == ("1", "dependencies: [python=3.11]\n")
    reference = f"environment=azureml:{name}@latest"
    deployed = create(cli, endpoint, "--set", reference).document
    assert deployed["environment"] == f"azureml:{name}:1"
    assert name in [each["name"] for each in cli("environment", "list").document]


# --- output -------------------------------------------------------------------------------------


def test_every_form_of_output_is_one_document(cli: Command, endpoint: str) -> None:
    show = ("online-endpoint", "show", "-n", endpoint, "-o")
    as_json = cli(*show, "json").document
    assert yaml.safe_load(cli(*show, "yaml").out) == as_json
    table = cli(*show, "table").out
    assert endpoint in table and "scoring uri" in table


def test_query_picks_a_field(cli: Command, endpoint: str) -> None:
    show = ("online-endpoint", "show", "-n", endpoint)
    assert cli(*show, "--query", "provisioning_state", "-o", "tsv").out == "Succeeded\n"
    assert cli(*show, "--query", "traffic").document == {}
    assert cli(*show, "--query", "nothing.here").document is None
    assert headgate(*show, "--query", "a b").code == 2


def test_events_are_printed_while_they_happen(cli: Command, system: System, unique: Unique) -> None:
    name = unique("ep")
    with started("events", "tail", "--filter", "endpoint", "--since", "1h") as process:
        cli("online-endpoint", "create", "-n", name)
        event = json.loads(line_with(process.stdout, name.encode()))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert event["type"] == "headgate.registry.event.v1.endpoint_created"
    assert event["data"]["endpoint"] == name
    assert process.returncode == 130


def test_events_of_the_past_end_with_no_follow(cli: Command, endpoint: str) -> None:
    tail = ("events", "tail", "--since", "1h", "--no-follow")
    lines = cli(*tail, "-o", "json").out.splitlines()
    assert all(json.loads(line)["specversion"] == "1.0" for line in lines)
    told = cli(*tail, "-o", "table").out
    assert f"endpoint.{endpoint}.created" in told


def test_status_names_the_parts_and_what_is_missing(system: System) -> None:
    """The parts that the test plays itself do not answer the discovery protocol."""
    ran = headgate("status")
    names = [each["name"] for each in ran.document["services"]]
    assert {"headgate-registry", "headgate-gateway"} <= set(names)
    assert ran.code == 1
    assert "no answer from: provisioner, autoscaler, router" in ran.err


# --- things that go wrong -----------------------------------------------------------------------


def test_a_wrong_token_ends_with_3(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", "wrong")
    ran = headgate("online-endpoint", "list")
    assert (ran.code, ran.out) == (3, "")
    assert "wrong" not in ran.err


def test_an_untrusted_certificate_is_told_with_the_remedy(
    system: System, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", "x")
    url = read_running(system.data)["gateway"]
    ran = headgate("status", "--data", tmp_path, "--url", url)
    assert ran.code == 2
    assert "certificate" in ran.err and "--ca" in ran.err


def test_another_headgate_is_reached_by_url_ca_and_token(
    system: System, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running = read_running(system.data)
    monkeypatch.setenv("HEADGATE_TOKEN", (system.data / "keys" / "admin.token").read_text().strip())
    flags = ("--data", tmp_path, "--url", running["gateway"], "--ca", running["ca"])
    assert headgate("online-endpoint", "list", *flags).code == 0


def test_ctrl_c_while_waiting_names_the_operation(
    system: System, endpoint: str, folder: Path
) -> None:
    create = ("online-deployment", "create", "-f", "blue.yml", "-e", endpoint)
    with started(*create, "--set", f"description={SLOW}") as process:
        line_with(process.stderr, b"instances ready")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert b"the operation" in err and b"goes on" in err
    assert b"Traceback" not in err


def test_a_closed_pipe_is_no_error(cli: Command, endpoint: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [PROGRAM, "online-endpoint", "list"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 0


def test_a_command_waits_for_a_gateway_that_is_away_for_a_while(
    system: System, endpoint: str, folder: Path
) -> None:
    """The operation goes on without the gateway; its client only has to ask again."""
    create = ("online-deployment", "create", "-f", "blue.yml", "-e", endpoint)
    with started(*create, "--set", f"description={SLOW}") as process:
        line_with(process.stderr, b"instances ready")
        system.stop_gateway()
        line_with(process.stderr, b"does not answer")
        system.finish_slow()
        system.start_gateway()
        out, err = process.communicate(timeout=40)
    assert process.returncode == 0, err
    assert json.loads(out)["provisioning_state"] == "Succeeded"


def test_each_workspace_has_its_own_endpoints(cli: Command, endpoint: str) -> None:
    listed = cli("online-endpoint", "list", "--workspace", "other").document
    assert endpoint not in [each["name"] for each in listed]
