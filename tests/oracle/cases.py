"""Requests that both servers get, and the places where ours answers otherwise on purpose."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

JSON = {"Content-Type": "application/json"}
LONG = "x" * 101
BOUNDARY = "----boundary7"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="who"\r\n\r\nme\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.txt"\r\n'
    f"Content-Type: text/plain\r\n\r\nfile text\r\n--{BOUNDARY}--\r\n"
).encode()
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}

SETTINGS_ENVIRONMENT = {
    "SCORING_TIMEOUT_MS": "300",
    "AML_CORS_ORIGINS": "https://a.example.com, https://b.example.com",
    "SERVICE_NAME": "taxi",
    "SERVICE_VERSION": "7.1",
    "SERVICE_PATH_PREFIX": "/v1/taxi/",
    "SERVER_VERSION_LOG_RESPONSE_ENABLED": "true",
}
ENVIRONMENTS = {"settings": SETTINGS_ENVIRONMENT, "any_origin": {"AML_CORS_ORIGINS": "*"}}
# any_origin is the text script, served once more
SCRIPTS = {"any_origin": "text"}


@dataclass(frozen=True, slots=True)
class Case:
    """One request to one script."""

    script: str
    name: str
    method: str = "POST"
    target: str = "/score"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.script}-{self.name}"


def case(
    script: str,
    name: str,
    body: Any = b"",
    *,
    method: str = "POST",
    target: str = "/score",
    headers: dict[str, str] | None = None,
) -> Case:
    """A case; a body that is not bytes or text is sent as JSON."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else None
    if data is None:
        data = json.dumps(body).encode()
    return Case(script, name, method, target, tuple((headers or {}).items()), data)


def get(script: str, name: str, target: str, headers: dict[str, str] | None = None) -> Case:
    return case(script, name, method="GET", target=target, headers=headers)


TEXT_CASES = (
    case("text", "json", {"a": 1}, headers=JSON),
    case("text", "any-content-type", "ünï", headers={"Content-Type": "image/png"}),
    case("text", "no-content-type", "plain words"),
    case("text", "empty-body", b"", headers=JSON),
    case("text", "not-utf-8", b"\xff\xfe{", headers=JSON),
    case("text", "byte-order-mark", b"\xef\xbb\xbf{}", headers=JSON),
    *(
        case("text", f"returns-{what}", {"do": what}, headers=JSON)
        for what in ("list", "text", "number", "none", "true", "nested", "unicode", "nan")
    ),
    case("text", "returns-set", {"do": "set"}, headers=JSON),
    case("text", "returns-bytes", {"do": "bytes"}, headers=JSON),
    case("text", "raises", {"do": "raise"}, headers=JSON),
    case("text", "raises-timeout-error", {"do": "raise_timeout"}, headers=JSON),
    case("text", "response-object", {"do": "response"}, headers=JSON),
    case("text", "sees-headers", {"do": "headers"}, headers={**JSON, "x-custom": "Yes, It is"}),
    case("text", "headers-are-a-dict", {"do": "header_type"}),
    get("text", "get-parameters", "/score?a=1&b=x&b=[2]&c=null&d=&e=%C3%BC%20z"),
    get("text", "get-without-parameters", "/score"),
    case("text", "head", method="HEAD"),
    case("text", "options", method="OPTIONS"),
    case("text", "put", {"a": 1}, method="PUT"),
    case("text", "delete", method="DELETE"),
    case("text", "urlencoded-body", "a=1&b=2", headers=URLENCODED),
    get("text", "health", "/"),
    case("text", "health-post", method="POST", target="/"),
    case("text", "health-options", method="OPTIONS", target="/"),
    get("text", "unknown-path", "/nothing/here"),
    get("text", "slash-behind", "/score/"),
    get("text", "swagger", "/swagger.json"),
    *(get("text", f"swagger-{v}", f"/swagger.json?version={v}") for v in ("2", "3.0", "3.1", "9")),
    case("text", "swagger-post", method="POST", target="/swagger.json"),
)

ID_CASES = (
    case("text", "ids-none", "x"),
    case("text", "ids-own", "x", headers={"x-request-id": "own"}),
    case("text", "ids-client", "x", headers={"x-ms-client-request-id": "client"}),
    case("text", "ids-legacy", "x", headers={"x-ms-request-id": "legacy"}),
    case(
        "text",
        "ids-own-and-client",
        "x",
        headers={"x-request-id": "own", "x-ms-client-request-id": "client"},
    ),
    case(
        "text",
        "ids-client-and-legacy",
        "x",
        headers={"x-ms-client-request-id": "client", "x-ms-request-id": "legacy"},
    ),
    case("text", "ids-own-too-long", "x", headers={"x-request-id": LONG}),
    case("text", "ids-client-too-long", "x", headers={"x-ms-client-request-id": LONG}),
    case("text", "ids-legacy-too-long", "x", headers={"x-ms-request-id": LONG}),
    case("text", "ids-longest", "x", headers={"x-request-id": LONG[1:]}),
    get("text", "ids-too-long-on-health", "/", {"x-request-id": LONG}),
    case("text", "trace-id", "x", headers={"TraceId": "t-1"}),
    case("text", "ids-on-failure", {"do": "raise"}, headers={"x-request-id": "own"}),
)

RAW_CASES = (
    case("raw", "describe", b"\x00\xff", target="/score?a=1&a=2&n=12&b=%C3%BC"),
    case("raw", "describe-json", {"x": 1}, headers={**JSON, "X-Custom": "c"}),
    get("raw", "get", "/score?a=1"),
    case("raw", "options", method="OPTIONS"),
    case("raw", "head", method="HEAD"),
    case("raw", "put", b"", method="PUT"),
    case("raw", "forced-json", {"x": 1}, target="/score?do=json"),
    case("raw", "json-property", [1], target="/score?do=property", headers=JSON),
    case("raw", "json-property-without-type", [1], target="/score?do=property"),
    case("raw", "json-property-broken", b"{", target="/score?do=property", headers=JSON),
    case("raw", "multipart", FORM, target="/score?do=form", headers=MULTIPART),
    case("raw", "urlencoded", "a=1&b=%20x&a=2", target="/score?do=form", headers=URLENCODED),
    *(
        case("raw", f"response-{what}", target=f"/score?do={what}")
        for what in (
            "bytes",
            "text",
            "none",
            "json_str",
            "headers",
            "lower_case_type",
            "error",
            "client_error",
            "failed",
            "own_ids",
            "generator",
            "line_break",
            "status_text",
            "plain",
            "raise",
            "bare_generator",
            "dumps",
        )
    ),
)

FLASK_CASES = tuple(
    case("flasky", what, target=f"/score?do={what}")
    for what in (
        "jsonify",
        "response",
        "mimetype",
        "broken",
        "abort",
        "stream",
        "cookie",
        "class",
    )
)

GOOD = {"data": [[1, 2], [3, 4]], "frame": [{"a": 1, "b": "z"}]}
SCHEMA_CASES = (
    case("schema", "all", {**GOOD, "scale": 3.0, "extra": "ignored"}, headers=JSON),
    case("schema", "default", GOOD, headers=JSON),
    case("schema", "json-subtype", GOOD, headers={"Content-Type": "application/x+json"}),
    case("schema", "charset", GOOD, headers={"Content-Type": "Application/JSON; charset=utf-8"}),
    case("schema", "missing-key", {"data": [[1, 2]]}, headers=JSON),
    case("schema", "wrong-shape", {**GOOD, "data": [[1, 2, 3]]}, headers=JSON),
    case("schema", "wrong-type", {**GOOD, "data": "text"}, headers=JSON),
    case("schema", "not-json-type", GOOD, headers={"Content-Type": "text/plain"}),
    case("schema", "no-type", GOOD),
    case("schema", "broken-json", b"{", headers=JSON),
    case("schema", "no-object", [1, 2], headers=JSON),
    case("schema", "empty", b"", headers=JSON),
    case("schema", "not-utf-8", b'{"data": "\xff"}', headers=JSON),
    get("schema", "get", '/score?data=[[1,2]]&frame=[{"a":1,"b":"q"}]'.replace('"', "%22")),
    get("schema", "get-missing", "/score?data=[[1,2]]"),
    case("schema", "options", method="OPTIONS"),
    get("schema", "swagger", "/swagger.json"),
    get("schema", "swagger-3", "/swagger.json?version=3"),
    get("schema", "swagger-3.1", "/swagger.json?version=3.1"),
)

ORIGIN = {"Origin": "https://a.example.com"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "x-b, authorization",
}
SETTINGS_CASES = (
    case("settings", "driver", {}),
    case("settings", "timeout", {"sleep_s": 2}),
    case("settings", "within-timeout", {"sleep_s": 0.01}),
    get("settings", "swagger-file-2", "/swagger.json"),
    get("settings", "swagger-file-3", "/swagger.json?version=3"),
    get("settings", "swagger-generated-3.1", "/swagger.json?version=3.1"),
    case("settings", "cors", {}, headers=ORIGIN),
    case("settings", "cors-other-origin", {}, headers={"Origin": "https://evil.example.com"}),
    case("settings", "cors-no-origin", {}),
    case("settings", "cors-preflight", method="OPTIONS", headers={**ORIGIN, **PREFLIGHT}),
    case(
        "settings",
        "cors-preflight-put",
        method="OPTIONS",
        headers={**ORIGIN, "Access-Control-Request-Method": "PUT"},
    ),
    get("settings", "cors-health", "/", ORIGIN),
    get("settings", "cors-unknown-path", "/nothing", ORIGIN),
    get("settings", "prefix-is-no-route", "/v1/taxi/score"),
)
ANY_ORIGIN_CASES = (
    case("any_origin", "cors", {}, headers=ORIGIN),
    case("any_origin", "cors-no-origin", {}),
    case("any_origin", "cors-preflight", method="OPTIONS", headers={**ORIGIN, **PREFLIGHT}),
)

# The same requests to a script with run_batch() besides, which the reference does not know.
BATCHED_CASES = tuple(replace(case, script="schema_batched") for case in SCHEMA_CASES)

CASES = (
    *TEXT_CASES,
    *ID_CASES,
    *RAW_CASES,
    *FLASK_CASES,
    *SCHEMA_CASES,
    *BATCHED_CASES,
    *SETTINGS_CASES,
    *ANY_ORIGIN_CASES,
)

# What is answered in the headers that a worker leaves to its router.
IDS_CASES = [case for case in CASES if "ids" in case.name.replace("_", "-").split("-")]

# Case -> why ours answers otherwise. A test proves that each of these still differs.
DIFFERENCES: dict[str, str] = {
    "text-urlencoded-body": "run() gets the body whatever the content type; the reference's form "
    "parser swallows it, so that run() gets empty text from curl's default content type",
    "text-raises-timeout-error": "a TimeoutError of the script's own is not reported as the "
    "server's scoring time-out",
    "raw-response-lower_case_type": "a content type in any spelling replaces the default one; the "
    "reference sends two Content-Type headers",
    "raw-response-bare_generator": "a generator is read to its end and sent as text; the reference "
    "fails to make JSON of it",
    "schema-not-utf-8": "a body that is not UTF-8 is the caller's fault (400), not ours (500)",
    "schema_batched-not-utf-8": "as for schema",
}
