"""``headgate apply``: what files ask for comes about, and a second time there is nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from cli.system import BROKEN, FAILURE, System
from cli.terminal import Ran, headgate

Command = Callable[..., Ran]
SCHEMAS = "https://azuremlschemas.azureedge.net/latest"


def write(folder: Path, name: str, kind: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"$schema: {SCHEMAS}/{kind}.schema.json\n{dedent(text)}")
    return file


@pytest.fixture
def rollout(folder: Path, unique: Callable[[str], str]) -> Path:
    """A folder with an endpoint, two deployments of it, a model and an environment."""
    endpoint = unique("ep")
    (folder / "blue.yml").unlink()
    write(
        folder,
        "endpoint.yml",
        "managedOnlineEndpoint",
        f"""\
        name: {endpoint}
        tags: {{team: vision}}
        traffic: {{blue: 90, green: 10}}
        """,
    )
    write(folder, "model.yml", "model", f"name: {endpoint}-model\npath: model\n")
    write(
        folder, "environment.yml", "environment", f"name: {endpoint}-env\nconda_file: conda.yml\n"
    )
    for name in ("blue", "green"):
        write(
            folder,
            f"{name}.yml",
            "managedOnlineDeployment",
            f"""\
            name: {name}
            endpoint_name: {endpoint}
            model: azureml:{endpoint}-model@latest
            environment: azureml:{endpoint}-env@latest
            code_configuration: {{code: code, scoring_script: score.py}}
            instance_count: 1
            """,
        )
    return folder


def name_of(folder: Path) -> str:
    return (folder / "endpoint.yml").read_text().split("name: ")[1].split("\n")[0]


def actions(ran: Ran) -> dict[tuple[str, str], str]:
    return {(row["kind"], row["name"].rpartition("/")[2]): row["action"] for row in ran.document}


def test_a_folder_comes_about_in_one_go_and_the_second_time_nothing_is_done(
    cli: Command, rollout: Path
) -> None:
    name = name_of(rollout)
    first = actions(cli("apply", "-f", rollout))
    assert set(first.values()) == {"create", "update"}
    assert first["traffic", name] == "update"
    shown = cli("online-endpoint", "show", "-n", name).document
    assert shown["traffic"] == {"blue": 90, "green": 10}
    assert shown["tags"] == {"team": "vision"}
    before = cli("online-deployment", "list", "-e", name).document
    again = cli("apply", "-f", rollout)
    assert set(actions(again).values()) == {"unchanged"}
    assert cli("online-deployment", "list", "-e", name).document == before


def test_a_dry_run_shows_the_plan_and_changes_nothing(cli: Command, rollout: Path) -> None:
    plan = cli("apply", "-f", rollout, "--dry-run")
    assert actions(plan)["online-endpoint", name_of(rollout)] == "create"
    assert headgate("online-endpoint", "show", "-n", name_of(rollout)).code == 4
    assert headgate("model", "show", "-n", f"{name_of(rollout)}-model").code == 4


def test_only_what_differs_is_touched_and_named(cli: Command, rollout: Path) -> None:
    cli("apply", "-f", rollout)
    green = (rollout / "green.yml").read_text()
    (rollout / "green.yml").write_text(green.replace("instance_count: 1", "instance_count: 2"))
    (rollout / "code" / "score.py").write_text("def init(): ...\ndef run(data): return [data]\n")
    rows = cli("apply", "-f", rollout, "--dry-run").document
    changed = {row["name"].rpartition("/")[2]: row["fields"] for row in rows if row["fields"]}
    assert changed == {
        "blue": ["code_configuration"],
        "green": ["code_configuration", "instance_count"],
    }
    cli("apply", "-f", rollout)
    assert set(actions(cli("apply", "-f", rollout)).values()) == {"unchanged"}


def test_a_changed_model_gets_a_new_version_and_its_deployments_follow(
    cli: Command, rollout: Path
) -> None:
    cli("apply", "-f", rollout)
    (rollout / "model" / "weights.bin").write_bytes(b"56789")
    planned = actions(cli("apply", "-f", rollout, "--dry-run"))
    assert planned["model", f"{name_of(rollout)}-model"] == "create"
    assert planned["online-deployment", "blue"] == "update"
    cli("apply", "-f", rollout)
    shown = cli("online-deployment", "show", "-n", "blue", "-e", name_of(rollout)).document
    assert shown["model"] == f"azureml:{name_of(rollout)}-model:2"
    assert set(actions(cli("apply", "-f", rollout)).values()) == {"unchanged"}


def test_traffic_stays_as_it_is_unless_the_file_speaks_of_it(cli: Command, rollout: Path) -> None:
    cli("apply", "-f", rollout)
    name = name_of(rollout)
    file = rollout / "endpoint.yml"
    file.write_text(file.read_text().replace("traffic: {blue: 90, green: 10}", "description: d"))
    cli("online-endpoint", "update", "-n", name, "--traffic", "blue=40", "green=60")
    assert actions(cli("apply", "-f", file)) == {("online-endpoint", name): "update"}
    shown = cli("online-endpoint", "show", "-n", name).document
    assert shown["traffic"] == {"blue": 40, "green": 60}
    assert shown["description"] == "d"


def test_a_deployment_that_fails_ends_with_1_and_leaves_the_traffic(
    cli: Command, rollout: Path
) -> None:
    cli("apply", "-f", rollout)
    file = rollout / "green.yml"
    text = file.read_text().replace("instance_count: 1", "instance_count: 2")
    file.write_text(f"{text}description: {BROKEN}\n")
    ran = headgate("apply", "-f", rollout)
    assert ran.code == 1
    assert FAILURE in ran.err
    shown = cli("online-endpoint", "show", "-n", name_of(rollout)).document
    assert shown["traffic"] == {"blue": 90, "green": 10}
    plan = actions(cli("apply", "-f", rollout, "--dry-run"))
    assert plan["online-deployment", "green"] == "retry"


def test_what_cannot_be_is_refused_with_2_before_anything_is_begun(
    cli: Command, rollout: Path
) -> None:
    file = rollout / "green.yml"
    file.write_text(file.read_text().replace("instance_count: 1", "instance_count: 99"))
    ran = headgate("apply", "-f", rollout)
    assert ran.code == 2
    assert "instance_count" in ran.err
    assert headgate("online-endpoint", "show", "-n", name_of(rollout)).code == 4


def test_traffic_that_headgate_refuses_ends_with_2(cli: Command, rollout: Path) -> None:
    file = rollout / "endpoint.yml"
    file.write_text(file.read_text().replace("blue: 90", "blue: 80"))
    ran = headgate("apply", "-f", rollout)
    assert ran.code == 2
    assert "traffic" in ran.err


def test_a_deployment_without_its_endpoint_is_told_before_anything_is_begun(
    system: System, rollout: Path
) -> None:
    (rollout / "endpoint.yml").unlink()
    ran = headgate("apply", "-f", rollout)
    assert ran.code == 4
    assert "no file here makes it" in ran.err


def test_a_version_never_changes(cli: Command, rollout: Path) -> None:
    (rollout / "model.yml").write_text((rollout / "model.yml").read_text() + "version: 7\n")
    cli("apply", "-f", rollout / "model.yml")
    assert set(actions(cli("apply", "-f", rollout / "model.yml")).values()) == {"unchanged"}
    (rollout / "model" / "weights.bin").write_bytes(b"other")
    ran = headgate("apply", "-f", rollout / "model.yml")
    assert ran.code == 5
    assert "versions never change" in ran.err


def test_two_files_for_one_thing_are_refused(system: System, rollout: Path) -> None:
    (rollout / "twin.yml").write_text((rollout / "blue.yml").read_text())
    ran = headgate("apply", "-f", rollout)
    assert ran.code == 2
    assert "twin.yml" in ran.err and "blue.yml" in ran.err


def test_files_of_other_things_are_left_out_and_told(cli: Command, rollout: Path) -> None:
    ran = cli("apply", "-f", rollout, "--dry-run")
    assert "conda.yml names no $schema" in ran.err
    assert len(ran.document) == 6


def test_an_unknown_schema_is_refused(system: System, tmp_path: Path) -> None:
    file = write(tmp_path, "job.yml", "sweepJob", "name: x\n")
    ran = headgate("apply", "-f", file)
    assert ran.code == 2
    assert "sweepjob" in ran.err


def test_one_file_without_a_schema_is_known_by_its_fields(
    cli: Command, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    name = unique("ep")
    file = tmp_path / "e.yml"
    file.write_text(f"name: {name}\nauth_mode: key\n")
    assert actions(cli("apply", "-f", file)) == {("online-endpoint", name): "create"}
