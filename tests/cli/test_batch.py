"""``headgate batch-endpoint`` and ``batch-deployment`` against a real registry and gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from cli.conftest import Command
from cli.system import System
from cli.terminal import headgate

Unique = Callable[[str], str]


@pytest.fixture
def batch_endpoint(cli: Command, unique: Unique) -> str:
    """A batch endpoint of this test's own."""
    name = unique("be")
    cli("batch-endpoint", "create", "-n", name)
    return name


@pytest.fixture
def recipe(cli: Command, folder: Path) -> Path:
    """``folder`` with a batch deployment as in Azure's examples; its compute is there."""
    cli("compute", "create", "-n", "batch-cluster")
    (folder / "code" / "batch_driver.py").write_text("def init(): ...\ndef run(files): ...\n")
    file = folder / "batch.yml"
    file.write_text(
        dedent("""\
        $schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
        name: torch
        endpoint_name: set-by-flag
        type: model
        model: {name: mnist, path: model}
        code_configuration: {code: code, scoring_script: batch_driver.py}
        environment: {name: batch-torch, image: a/b:latest, conda_file: conda.yml}
        compute: azureml:batch-cluster
        resources: {instance_count: 2}
        tags: {device_batching: 16}
        settings:
          max_concurrency_per_instance: 2
          mini_batch_size: 5
          output_action: append_row
          output_file_name: predictions.csv
          retry_settings: {max_retries: 3, timeout: 300}
          error_threshold: -1
          logging_level: info
        """)
    )
    return file


def deploy(cli: Command, endpoint: str, recipe: Path, *flags: str) -> dict[str, object]:
    ran = cli("batch-deployment", "create", "-f", recipe, "-e", endpoint, *flags)
    document: dict[str, object] = ran.document
    return document


# --- endpoints ---------------------------------------------------------------------------------


def test_an_endpoint_from_a_file(cli: Command, unique: Unique, tmp_path: Path) -> None:
    name, file = unique("be"), tmp_path / "endpoint.yml"
    file.write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json\n"
        "name: set-by-flag\ndescription: by night\nauth_mode: aad_token\ntags: {type: deep}\n"
    )
    shown = cli("batch-endpoint", "create", "-f", file, "-n", name).document
    assert shown["name"] == name
    assert shown["auth_mode"] == "aad_token"
    assert shown["provisioning_state"] == "Succeeded"
    assert shown["scoring_uri"].endswith(f"/batchEndpoints/{name}/jobs")
    assert cli("batch-endpoint", "show", "-n", name).document == shown
    assert name in [each["name"] for each in cli("batch-endpoint", "list").document]
    again = headgate("batch-endpoint", "create", "-n", name)
    assert again.code == 5
    assert "ResourceAlreadyExists" in again.err


def test_what_is_shown_can_be_sent_back(cli: Command, batch_endpoint: str, tmp_path: Path) -> None:
    shown = cli("batch-endpoint", "show", "-n", batch_endpoint).document
    file = tmp_path / "shown.yml"
    file.write_text(yaml.safe_dump(shown))
    ran = cli("batch-endpoint", "update", "-f", file, "--set", "description=more")
    assert ran.document["description"] == "more"


def test_a_key_is_no_way_into_a_batch_endpoint(system: System, unique: Unique) -> None:
    ran = headgate("batch-endpoint", "create", "-n", unique("be"), "--auth-mode", "key")
    assert ran.code == 2
    assert "aad_token" in ran.err


# --- deployments -------------------------------------------------------------------------------


def test_a_deployment_on_a_compute_that_is_not_there_is_refused(
    batch_endpoint: str, recipe: Path
) -> None:
    create = ("batch-deployment", "create", "-f", recipe, "-e", batch_endpoint)
    ran = headgate(*create, "--set", "compute=azureml:batch-clutter")
    assert ran.code == 2
    assert "compute: there is no compute 'batch-clutter' in this workspace" in ran.err
    assert "batch-cluster" in ran.err
    assert "headgate compute create --name batch-clutter" in ran.err


def test_a_deployment_from_a_file_in_the_newer_layout(
    cli: Command, batch_endpoint: str, recipe: Path
) -> None:
    shown = deploy(cli, batch_endpoint, recipe, "--set-default")
    assert shown["model"] == "azureml:mnist:1"
    assert str(shown["environment"]).startswith("azureml:batch-torch:")
    assert shown["compute"] == "azureml:batch-cluster"
    assert shown["mini_batch_size"] == 5
    assert shown["retry_settings"] == {"max_retries": 3, "timeout": 300}
    assert shown["resources"] == {"instance_count": 2}
    assert shown["tags"] == {"device_batching": "16"}
    endpoint = cli("batch-endpoint", "show", "-n", batch_endpoint).document
    assert endpoint["defaults"] == {"deployment_name": "torch"}
    listed = cli("batch-deployment", "list", "-e", batch_endpoint).document
    assert [each["name"] for each in listed] == ["torch"]


def test_create_replaces_what_is_there_as_az_does(
    cli: Command, batch_endpoint: str, recipe: Path
) -> None:
    deploy(cli, batch_endpoint, recipe, "--set", "description=old", "settings.mini_batch_size=7")
    shown = deploy(cli, batch_endpoint, recipe)
    assert (shown["description"], shown["mini_batch_size"]) == ("", 5)


def test_an_update_changes_what_it_names(cli: Command, batch_endpoint: str, recipe: Path) -> None:
    before = deploy(cli, batch_endpoint, recipe)
    where = ("-n", "torch", "-e", batch_endpoint)
    ran = cli("batch-deployment", "update", *where, "--set", "settings.mini_batch_size=20")
    assert ran.document["mini_batch_size"] == 20
    ran = cli("batch-deployment", "update", *where, "--set", "retry_settings.timeout=60")
    assert ran.document["retry_settings"] == {"max_retries": 3, "timeout": 60}
    for field in ("model", "environment", "code_configuration", "compute", "tags"):
        assert ran.document[field] == before[field], field


def test_the_default_has_to_be_moved_before_it_can_go(
    cli: Command, batch_endpoint: str, recipe: Path
) -> None:
    deploy(cli, batch_endpoint, recipe, "--set-default")
    where = ("-n", "torch", "-e", batch_endpoint)
    refused = headgate("batch-deployment", "delete", *where, "--yes")
    assert refused.code == 5
    assert "--defaults deployment_name=" in refused.err
    shown = cli("batch-endpoint", "update", "-n", batch_endpoint, "--defaults", "deployment_name=")
    assert shown.document["defaults"] == {}
    cli("batch-deployment", "delete", *where, "--yes")
    assert cli("batch-deployment", "list", "-e", batch_endpoint).document == []
    assert "there was no batch deployment" in cli("batch-deployment", "delete", *where, "-y").err


@pytest.mark.parametrize("flag", [("--defaults", "torch"), ("--defaults", "nobody=x")])
def test_a_misspelt_default_is_refused(batch_endpoint: str, flag: tuple[str, str]) -> None:
    ran = headgate("batch-endpoint", "update", "-n", batch_endpoint, *flag)
    assert ran.code == 2
    assert "deployment_name=" in ran.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mini-batch-size", "0"), "error: mini_batch_size: must be at least 1, not 0"),
        (("--job-name", "a b"), "error: job_name: 'a b' is no valid name (1 to 64 letters"),
        (("--set", "output_file_name=a/b"), "error: output_file_name: a file name without a path"),
    ],
)
def test_a_bad_invocation_is_refused_in_words(
    batch_endpoint: str, flags: tuple[str, str], words: str
) -> None:
    ran = headgate("batch-endpoint", "invoke", "-n", batch_endpoint, *flags)
    assert ran.code == 2
    assert words in ran.err


def test_the_default_may_be_set_by_path(cli: Command, batch_endpoint: str, recipe: Path) -> None:
    deploy(cli, batch_endpoint, recipe)
    path = "defaults.deployment_name=torch"
    shown = cli("batch-endpoint", "update", "-n", batch_endpoint, "--set", path).document
    assert shown["defaults"] == {"deployment_name": "torch"}


def test_without_an_endpoint_nothing_is_uploaded(system: System, recipe: Path) -> None:
    ran = headgate("batch-deployment", "create", "-f", recipe, "-e", "nobody")
    assert ran.code == 4
    assert "ResourceNotFound" in ran.err


def test_no_jobs_yet(cli: Command, batch_endpoint: str, recipe: Path) -> None:
    deploy(cli, batch_endpoint, recipe)
    assert cli("batch-endpoint", "list-jobs", "-n", batch_endpoint).document == []
    where = ("-n", "torch", "-e", batch_endpoint)
    assert cli("batch-deployment", "list-jobs", *where).document == []


def test_an_endpoint_is_deleted_with_its_deployments(
    cli: Command, batch_endpoint: str, recipe: Path
) -> None:
    deploy(cli, batch_endpoint, recipe, "--set-default")
    cli("batch-endpoint", "delete", "-n", batch_endpoint, "--yes")
    assert headgate("batch-endpoint", "show", "-n", batch_endpoint).code == 4
    assert headgate("batch-deployment", "show", "-n", "torch", "-e", batch_endpoint).code == 4


# --- apply -------------------------------------------------------------------------------------


def test_apply_makes_endpoint_deployment_and_default_and_then_nothing(
    cli: Command, unique: Unique, recipe: Path
) -> None:
    name = unique("be")
    recipe.write_text(recipe.read_text().replace("set-by-flag", name))
    recipe.with_name("endpoint.yml").write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json\n"
        f"name: {name}\ndefaults: {{deployment_name: torch}}\n"
    )

    def apply(*flags: str) -> list[tuple[str, str]]:
        steps = cli("apply", "-f", recipe.parent, *flags).document
        return [(step["action"], step["kind"]) for step in steps]

    made = [("create", "batch-endpoint"), ("create", "batch-deployment"), ("update", "default")]
    assert apply("--dry-run") == made
    assert apply() == made
    shown = cli("batch-endpoint", "show", "-n", name).document
    assert shown["defaults"] == {"deployment_name": "torch"}
    assert {action for action, _ in apply()} == {"unchanged"}
    recipe.write_text(recipe.read_text().replace("mini_batch_size: 5", "mini_batch_size: 6"))
    assert ("update", "batch-deployment") in apply()
    assert {action for action, _ in apply()} == {"unchanged"}


def test_apply_misses_the_endpoint_of_a_batch_deployment(
    system: System, unique: Unique, recipe: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("set-by-flag", unique("be")))
    ran = headgate("apply", "-f", recipe)
    assert ran.code == 4
    assert "there is no batch-endpoint" in ran.err
