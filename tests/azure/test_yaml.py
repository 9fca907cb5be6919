"""Azure's YAML files: what is read, what is refused, and where the message points."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headgate.azure import yaml_nodes
from headgate.azure.local_paths import LocalPathError, LocalPaths
from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.azure.yaml_nodes import Mapping, Place, Scalar
from headgate.azure.yaml_shapes import Findings, shaped
from headgate.azure.yaml_values import LocalDeployment
from headgate_contracts import limits
from headgate_contracts.resources import DeploymentSpec, EndpointSpec, RequestSettings

DEPLOYMENT = """\
    $schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
    name: blue
    endpoint_name: digits
    model:
      path: model
    code_configuration:
      code: code
      scoring_script: score.py
    environment:
      conda_file: conda.yml
      image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest
    instance_type: Standard_DS3_v2
    instance_count: 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployable folder, with the command started in it."""
    inside = tmp_path / "work" / "deploy"
    (inside / "code").mkdir(parents=True)
    (inside / "code" / "score.py").write_text("def init(): ...\ndef run(data): ...\n")
    (inside / "model").mkdir()
    (inside / "model" / "weights.bin").write_bytes(b"1234")
    (inside / "conda.yml").write_text("dependencies: [python=3.11]\n")
    monkeypatch.chdir(inside)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return inside


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yml"
    path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    return path


def deployment(folder: Path, text: str) -> LocalDeployment[DeploymentSpec]:
    return YamlFile.open(write(folder, text)).deployment()


def refusal(folder: Path, text: str | bytes, kind: str = "endpoint") -> str:
    """What is said about a file that is refused."""
    path = write(folder, text)
    with pytest.raises(YamlFileError) as caught:
        getattr(YamlFile.open(path), kind)()
    return str(caught.value).replace(str(path), "FILE")


# --- files as Azure has them --------------------------------------------------------------------


def test_a_managed_deployment_is_read_with_its_local_assets(folder: Path) -> None:
    local = deployment(folder, DEPLOYMENT)
    assert (local.spec.name, local.spec.endpoint_name) == ("blue", "digits")
    assert local.code == (folder / "code").resolve()
    assert local.model and local.model.path == (folder / "model").resolve()
    assert local.environment and "python=3.11" in (local.environment.conda_file or "")
    assert local.environment.fields.image == (
        "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
    )


def test_every_setting_of_a_deployment_is_read(folder: Path) -> None:
    text = (
        DEPLOYMENT
        + """\
    description: reads digits
    tags: {team: vision}
    model_mount_path: /var/models
    environment_variables: {WORKERS: 2, GREETING: no}
    app_insights_enabled: true
    egress_public_network_access: disabled
    scale_settings: {type: default}
    request_settings:
      request_timeout_ms: 3000
      max_concurrent_requests_per_instance: 4
      max_queue_wait_ms: 100
    batching: {max_rows: 64, max_wait_ms: 2}
    liveness_probe: {initial_delay: 20, period: 5, timeout: 3, failure_threshold: 7}
    readiness_probe: {success_threshold: 2}
    """
    )
    spec = deployment(folder, text).spec
    assert spec.environment_variables == {"WORKERS": "2", "GREETING": "no"}
    assert spec.request_settings.request_timeout_ms == 3_000
    assert spec.batching is not None and spec.variables == {
        **spec.environment_variables,
        "BATCH_MAX_ROWS": "64",
        "BATCH_MAX_WAIT_MS": "2",
    }
    assert spec.liveness_probe.failure_threshold == 7
    assert spec.readiness_probe.success_threshold == 2
    assert spec.app_insights_enabled and spec.egress_public_network_access == "disabled"


def test_references_stay_references(folder: Path) -> None:
    """Short references, labels and full resource ids; nothing is uploaded for them."""
    long = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
        "/workspaces/w/environments/env/versions/3"
    )
    text = f"""\
    name: blue
    endpoint_name: digits
    model: azureml:digits@latest
    environment: {long}
    code_configuration: {{code: "azureml:scripts:2", scoring_script: score.py}}
    """
    local = deployment(folder, text)
    assert (local.model, local.environment, local.code) == (None, None, None)
    assert local.spec.model == "azureml:digits@latest"
    assert local.spec.environment == long


def test_an_endpoint_is_read_and_what_the_system_sets_is_ignored_with_a_warning(
    folder: Path,
) -> None:
    """The output of ``show`` can be used as a file."""
    text = """\
    name: digits
    auth_mode: Key
    traffic: {blue: 90, green: 10}
    identity: {type: system_assigned}
    scoring_uri: https://elsewhere
    provisioning_state: Succeeded
    """
    file = YamlFile.open(write(folder, text))
    spec = file.endpoint()
    assert spec.auth_mode == "key" and spec.traffic == {"blue": 90, "green": 10}
    assert len(file.warnings) == 2
    assert all("ignored" in warning for warning in file.warnings)


def test_kubernetes_fields_are_ignored_with_a_warning(folder: Path) -> None:
    text = (
        DEPLOYMENT.replace("managed", "kubernetes")
        + """\
    type: kubernetes
    resources: {requests: {cpu: "0.1"}}
    """
    )
    file = YamlFile.open(write(folder, text))
    file.deployment()
    assert [re.search(r":\d+:\d+: (\w+):", w).group(1) for w in file.warnings] == [
        "type",
        "resources",
    ]


def test_an_inline_conda_definition_keeps_its_versions_as_they_are_written(folder: Path) -> None:
    """``3.10`` must not become the number 3.1."""
    text = """\
    name: env
    conda_file:
      channels: [conda-forge]
      dependencies:
        - python=3.10
        - pip: [numpy==1.30]
      version: 3.10
    """
    environment = YamlFile.open(write(folder, text)).environment()
    assert environment.conda_file is not None
    assert yaml.safe_load(environment.conda_file) == {
        "channels": ["conda-forge"],
        "dependencies": ["python=3.10", {"pip": ["numpy==1.30"]}],
        "version": "3.10",
    }


def test_bom_and_windows_line_ends_are_fine(folder: Path) -> None:
    path = write(folder, b"\xef\xbb\xbfname: digits\r\nauth_mode: key\r\n")
    assert YamlFile.open(path).endpoint().name == "digits"


def test_anchors_and_merge_keys_work_within_the_limits(folder: Path) -> None:
    text = """\
    name: digits
    tags: &tags {team: vision, cost: a}
    properties:
      <<: *tags
      cost: b
    """
    spec = YamlFile.open(write(folder, text)).endpoint()
    assert spec.properties == {"team": "vision", "cost": "b"}


# --- what is refused, and where the message points ----------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A file, and what its refusal must say."""

    text: str | bytes
    says: tuple[str, ...]
    kind: str = "endpoint"


BOMB = "name: x\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
BAD = {
    "python tag": Bad("name: !!python/object/apply:os.system [ls]\n", ("FILE:1:7", "tag")),
    "python name": Bad("name: !!python/name:os.system\n", ("FILE:1:7", "tag")),
    "own tag": Bad("name: !mine x\n", ("FILE:1:7", "tag")),
    "alias bomb": Bad(BOMB, ("values once aliases are followed",)),
    "too many aliases": Bad(
        "name: &n abc\ntags:\n" + "".join(f"  k{n}: *n\n" for n in range(101)), ("100 aliases",)
    ),
    "alias of itself": Bad("name: abc\ntags: &t {a: *t}\n", ("inside its own anchor",)),
    "unknown alias": Bad("name: *nobody\n", ("FILE:1:7", "nobody")),
    "ten megabytes": Bad(b"# " + b"x" * 10_000_000, ("larger than 1,048,576 bytes",)),
    "a thousand levels": Bad("a: " + "[" * 1_000 + "]" * 1_000, ("deeper than 64",)),
    "depth by aliases": Bad(
        f"a: &a {'[' * 40}x{']' * 40}\nb: {'[' * 40}*a{']' * 40}\n", ("deeper than 64",)
    ),
    "duplicate key": Bad("name: one\nname: two\n", ("FILE:2:1", "'name'", "twice", "line 1")),
    "duplicate inside": Bad("name: abc\ntags:\n  a: 1\n  a: 2\n", ("FILE:4:3", "twice")),
    "two documents": Bad("name: abc\n---\nname: abd\n", ("FILE:2:1", "second document")),
    "tab": Bad("name: abc\ntags:\n\ta: b\n", ("FILE:3:1", "tab", "only spaces")),
    "not UTF-8": Bad(b"name: abc\ntags: {a: \xff}\n", ("FILE:2:11", "UTF-8")),
    "control character": Bad(b"name: a\x01b\n", ("control characters",)),
    "broken": Bad("name: [abc\n", ("FILE:2:1", "not valid YAML")),
    "empty": Bad("", ("empty",)),
    "only a comment": Bad("# nothing\n", ("empty",)),
    "a list": Bad("- name: abc\n", ("FILE:1:1", "mapping of fields")),
    "a word": Bad("digits\n", ("mapping of fields",)),
    "key is a list": Bad("? [a]\n: b\n", ("FILE:1:3", "key")),
    "placeholder": Bad("name: {{ENDPOINT}}\n", ("placeholder",)),
    "unknown key": Bad(
        "name: abc\nauthmode: key\n", ("FILE:2:1", "authmode", "did you mean 'auth_mode'")
    ),
    "unknown nested key": Bad(
        "name: abc\nendpoint_name: abc\nrequest_settings:\n  request_timeout: 5\n",
        ("FILE:4:3", "request_settings.request_timeout", "'request_timeout_ms'"),
        "deployment",
    ),
    "wrong kind of file": Bad(
        DEPLOYMENT, ("$schema", "managed online deployment", "online endpoint")
    ),
    "batch file": Bad(
        "$schema: https://x/latest/batchEndpoint.schema.json\nname: abc\n",
        ("FILE:1:10", "batch endpoint"),
    ),
    "missing name": Bad("auth_mode: key\n", ("FILE:1:1", "name: is required")),
    "null name": Bad("name: ~\n", ("name: is required",)),
    "bad name": Bad("name: My_Endpoint\n", ("FILE:1:7", limits.NAME_RULE)),
    "bad choice": Bad(
        "name: abc\nauth_mode: kee\n",
        ("FILE:2:12", "key, aml_token, aad_token", "'kee'", "did you mean 'key'"),
    ),
    "octal": Bad("name: abc\ntraffic: {a: 010}\n", ("FILE:2:14", "traffic.a", "whole number")),
    "sexagesimal": Bad("name: abc\ntraffic: {a: 1:30}\n", ("whole number", "'1:30'")),
    "exponent": Bad("name: abc\ntraffic: {a: 1e1}\n", ("whole number",)),
    "Norway as a number": Bad("name: abc\ntraffic: {a: no}\n", ("whole number", "'no'")),
    "too much": Bad("name: abc\ntraffic: {a: 101}\n", ("FILE:2:14", "at most 100, not 101")),
    "too little": Bad(
        "name: abc\nendpoint_name: abc\nrequest_settings: {request_timeout_ms: 0}\n",
        ("FILE:3:40", "request_settings.request_timeout_ms", "at least 1, not 0"),
        "deployment",
    ),
    "above the limit": Bad(
        "name: abc\nendpoint_name: abc\ninstance_count: 51\n",
        ("FILE:3:17", "at most 50, not 51"),
        "deployment",
    ),
    "a mapping for a word": Bad("name: {a: b}\n", ("FILE:1:7", "single value, not a mapping")),
    "a word for a mapping": Bad("name: abc\ntags: team\n", ("FILE:2:7", "must be a mapping")),
    "a word for a list": Bad(
        "name: abc\nidentity: {type: user_assigned, user_assigned_identities: x}\n",
        ("must be a list",),
    ),
    "malformed reference": Bad(
        "name: abc\nendpoint_name: abc\nmodel: azureml:digits\n",
        ("FILE:3:8", "azureml:<name>:<version>"),
        "deployment",
    ),
    "reference of another kind": Bad(
        "name: abc\nendpoint_name: abc\nenvironment: /subscriptions/s/resourceGroups/g/providers/"
        "Microsoft.MachineLearningServices/workspaces/w/models/m/versions/1\n",
        ("FILE:3:14", "environments are expected"),
        "deployment",
    ),
    "shared registry": Bad(
        "name: abc\nendpoint_name: abc\nenvironment: azureml://registries/azureml/environments/e/"
        "labels/latest\n",
        ("shared registries", "headgate environment create"),
        "deployment",
    ),
    "code without script": Bad(
        "name: abc\nendpoint_name: abc\ncode_configuration: {code: code}\n",
        ("FILE:3:21", "code_configuration.scoring_script", "required"),
        "deployment",
    ),
    "empty environment": Bad(
        "name: abc\nendpoint_name: abc\nenvironment: {description: x}\n",
        ("image, conda_file or build",),
        "deployment",
    ),
    "reserved variable": Bad(
        "name: abc\nendpoint_name: abc\nenvironment_variables: {HEADGATE_X: y}\n",
        ("HEADGATE_ is reserved",),
        "deployment",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_with_its_place_and_reason(folder: Path, bad: Bad) -> None:
    said = refusal(folder, bad.text, bad.kind)
    for part in bad.says:
        assert part in said


def test_all_problems_of_a_file_are_reported_together(folder: Path) -> None:
    text = """\
    name: Bad_Name
    endpoint_name: digits
    instance_count: many
    request_settings: {request_timeout_ms: 999999999}
    code_configuration: {code: nowhere, scoring_script: score.py}
    modle: azureml:x:1
    """
    said = refusal(folder, text, "deployment").splitlines()
    assert len(said) == 4
    for field in ("name", "instance_count", "request_settings.request_timeout_ms", "modle"):
        assert any(f": {field}: " in line for line in said), field


def test_only_the_safe_reader_is_used() -> None:
    """No module of the product loads YAML in a way that can build objects."""
    root = Path(yaml_nodes.__file__).parents[1]
    for module in root.rglob("*.py"):
        text = module.read_text()
        assert not re.search(
            r"yaml\.(unsafe_|full_)?load\(|[^S]Loader=yaml\.(Unsafe|Full)?Loader", text
        )


# --- paths --------------------------------------------------------------------------------------


def with_code(path: str) -> str:
    return (
        "name: abc\nendpoint_name: abc\n"
        f"code_configuration: {{code: '{path}', scoring_script: score.py}}\n"
    )


@pytest.mark.parametrize("path", ["../..", "../../..", ".."])
def test_code_above_the_folder_is_refused(folder: Path, path: str) -> None:
    said = refusal(folder, with_code(path), "deployment")
    assert "FILE:3:28: code_configuration.code" in said
    assert "out of the folder" in said and "--allow-outside" in said


def test_an_absolute_path_is_refused(folder: Path) -> None:
    assert "absolute" in refusal(folder, with_code(str(folder / "code")), "deployment")


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    assert "by a link" in refusal(folder, with_code("link"), "deployment")


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "link").symlink_to("code")
    assert deployment(folder, with_code("link")).code == (folder / "code").resolve()


def test_a_loop_of_links_a_fifo_and_a_device_are_refused(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/null")
    assert "cannot be read" in refusal(folder, with_code("loop"), "deployment")
    assert "neither a file nor a folder" in refusal(folder, with_code("pipe"), "deployment")
    assert "neither a file nor a folder" in refusal(folder, with_code("device"), "deployment")


def test_missing_and_misplaced_paths_are_refused(folder: Path) -> None:
    assert "does not exist" in refusal(folder, with_code("nowhere"), "deployment")
    assert "folder is expected" in refusal(folder, with_code("conda.yml"), "deployment")
    assert "only local files" in refusal(folder, with_code("https://x/y"), "deployment")
    script = with_code("code").replace("score.py", "scores.py")
    assert "did you mean 'score.py'" in refusal(folder, script, "deployment")
    script = with_code("code").replace("score.py", "../conda.yml")
    assert "inside the code folder" in refusal(folder, script, "deployment")


def test_paths_outside_are_allowed_below_the_folder_of_the_command(folder: Path) -> None:
    """Azure's examples name ``../../model-1/...`` and are started from the folder above."""
    outer = folder.parents[0]
    paths = LocalPaths(folder / "a", outer, home=folder.parents[1] / "home")
    (folder / "a").mkdir()
    assert paths.folder_at("../code") == folder / "code"
    with pytest.raises(LocalPathError, match="out of the folder"):
        paths.any_at("../..")  # the folder of the command itself is not below it


def test_a_file_with_azures_relative_paths_deploys_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Azure's examples: ``cli`` holds ``model-1`` beside ``managed/sample/blue.yml``."""
    shared = folder / "model-1"
    (folder / "managed" / "sample").mkdir(parents=True)
    shared.mkdir()
    for name in ("code", "model", "conda.yml"):
        (folder / name).rename(shared / name)
    text = DEPLOYMENT.replace(": model\n", ": ../../model-1/model/\n")
    text = text.replace(": code\n", ": ../../model-1/code/\n")
    text = text.replace(": conda.yml\n", ": ../../model-1/conda.yml\n")
    path = write(folder / "managed" / "sample", text)
    assert YamlFile.open(path).deployment().code == (shared / "code").resolve()
    monkeypatch.chdir(folder / "managed" / "sample")
    with pytest.raises(YamlFileError, match="start the command in a folder that holds both"):
        YamlFile.open(path).deployment()


def test_started_at_home_or_above_only_the_files_own_folder_counts(folder: Path) -> None:
    for start in (folder.parents[1], Path("/")):
        paths = LocalPaths(folder / "code", start, home=folder.parents[1])
        with pytest.raises(LocalPathError, match="out of the folder"):
            paths.any_at("../model")


def test_allow_outside_lifts_the_rule(folder: Path) -> None:
    path = write(folder / "code", with_code("../../deploy/code"))
    assert YamlFile.open(path, allow_outside=True).deployment().code == (folder / "code").resolve()


@pytest.mark.parametrize("name", ["missing.yml", "code"])
def test_a_file_that_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(YamlFileError, match=r"does not exist|is not a file"):
        YamlFile.open(folder / name)


# --- secrets ------------------------------------------------------------------------------------

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    ("name", "value", "warned"),
    [
        ("DB_PASSWORD", SECRET, True),
        ("API_KEY", SECRET, True),
        ("URL", f"postgres://me:{SECRET}@db/x", True),
        ("BLOB", "AccountKey=abc", True),
        ("PASSWORD", "${{azureml://connections/db/credentials/password}}", False),
        ("PASSWORD", "", False),
        ("MONKEYS", "3", False),
        ("OMP_NUM_THREADS", "1", False),
    ],
)
def test_a_variable_that_looks_like_a_secret_is_warned_about_and_never_shown(
    folder: Path, name: str, value: str, warned: bool
) -> None:
    text = f"name: abc\nendpoint_name: abc\nenvironment_variables:\n  {name}: '{value}'\n"
    file = YamlFile.open(write(folder, text))
    file.deployment()
    assert bool(file.warnings) is warned
    assert SECRET not in " ".join(file.warnings)


def test_a_refused_file_does_not_show_its_variables(folder: Path) -> None:
    text = f"name: abc\nenvironment_variables: {{A=B: {SECRET}, HEADGATE_C: {SECRET}}}\n"
    assert SECRET not in refusal(folder, text, "deployment")


# --- the schema decides, not YAML ---------------------------------------------------------------

GUESSED = st.one_of(
    st.sampled_from(["no", "Yes", "on", "010", "0o17", "0x1F", "1:30", "1e3", "1_000", ".5", "+1"]),
    st.sampled_from(["2024-01-01", "2024-01-01T00:00:00Z", "1.10", "True", ".inf", ".nan", "="]),
    st.integers().map(str),
    st.floats(allow_nan=True).map(str),
    st.dates().map(str),
    st.booleans().map(str),
)


@given(GUESSED)
def test_a_text_field_keeps_every_word_as_it_is_written(word: str) -> None:
    root = yaml_nodes.read(f"name: digits\ntags: {{a: {word}}}\n".encode(), "f")
    spec = shaped(root, EndpointSpec, "", Findings())
    assert spec is not None and spec.tags == {"a": word}


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_quoted_text_comes_back_as_it_was(text: str) -> None:
    raw = yaml.safe_dump({"name": "digits", "description": text}, allow_unicode=True).encode()
    root = yaml_nodes.read(raw, "f")
    assert isinstance(root, Mapping)
    node = root.items["description"]
    assert isinstance(node, Scalar) and node.text == text


@given(GUESSED)
def test_a_number_field_takes_decimal_whole_numbers_only(word: str) -> None:
    findings = Findings()
    node = Mapping(Place("f"), {"request_timeout_ms": Scalar(Place("f"), word)}, {})
    settings = shaped(node, RequestSettings, "", findings)
    number = int(word) if re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", word) else None
    if number is not None and 1 <= number <= limits.REQUEST_TIMEOUT_MS_MAX:
        assert settings is not None and settings.request_timeout_ms == number
    else:
        assert settings is None and findings.problems


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail_otherwise_than_by_refusing(raw: bytes) -> None:
    try:
        yaml_nodes.read(raw, "f")
    except yaml_nodes.YamlTextError as error:
        assert error.message
