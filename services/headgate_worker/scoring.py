"""What Azure's inference server answers to each request, with the script's run() in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, Optional, Union
from urllib.parse import parse_qsl

from headgate_worker import aml, failure, flask_bridge, output, tracing, v2_service, web
from headgate_worker.batching import Batched
from headgate_worker.core import SCORING_BODY_BYTES_MAX
from headgate_worker.cors import Cors
from headgate_worker.failure import ScoringTimeoutError
from headgate_worker.generated import WHOLE, Generated
from headgate_worker.inputs import InputError, Inputs, MethodError, reader
from headgate_worker.request import (
    FAILED_HEADER,
    JSON,
    NOT_FAILED,
    Answer,
    Ids,
    Request,
    exec_ms,
    identify,
)
from headgate_worker.script import RAW, TENSORS, Script
from headgate_worker.settings import Settings
from headgate_worker.streams import ReaderGoneError, Stream
from headgate_worker.swagger import Swagger, SwaggerError

TEXT = ("Content-Type", "text/html; charset=utf-8")
FAILED = (FAILED_HEADER, "True")

NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check "
    "your spelling and try again."
)
METHOD_NOT_ALLOWED = "The method is not allowed for the requested URL."
RUN_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
INTERNAL = "An unexpected internal error occurred. Check the logs for more info."


Context = AbstractContextManager[Any]


class Dialect(NamedTuple):
    """How answers are written: of a function's result, and of a status with a text."""

    answer: Callable[[Any], Answer]
    message: Callable[..., Answer]


class Call:
    """A request for which a function of the script is to be called, inside of a context if any.

    One with ``batched`` may share the call with others.
    """

    __slots__ = ("batched", "context", "dialect", "function", "ids", "inputs", "request")

    def __init__(
        self,
        request: Request,
        ids: Ids,
        function: Callable[..., Any],
        inputs: Inputs,
        context: Optional[Context],
        dialect: Dialect,
        batched: Optional[Batched],
    ) -> None:
        self.request = request
        self.ids = ids
        self.function = function
        self.inputs = inputs
        self.context = context
        self.dialect = dialect
        self.batched = batched


class Scorer:
    """Turns requests into calls of run() or answers, and outputs of run() into answers."""

    def __init__(self, script: Script, settings: Settings) -> None:
        self.script = script
        self.timeout_ms = settings.scoring_timeout_ms
        self._swagger = Swagger(script, settings)
        self._cors = Cors(settings.cors_origins) if settings.cors_origins else None
        model = script.tensors() if script.tensors is not None else None
        self._v2 = v2_service.Service(model, settings) if model is not None else None
        self._server_version = settings.server_version
        self._read = None if script.mode == RAW else reader(script)
        flask = aml.flask_module()
        self._flask = flask_bridge.FlaskBridge(flask) if flask is not None else None
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Request], Answer]]] = {
            "/": (("GET", "HEAD", "OPTIONS"), self._health),
            "/swagger.json": (("GET", "HEAD", "OPTIONS"), self._get_swagger),
        }

    @property
    def batches(self) -> bool:
        """Whether requests may share calls."""
        return self.script.batched is not None or (
            self._v2 is not None and self._v2.batched is not None
        )

    # -- before run() -------------------------------------------------------------------------

    def begin(self, request: Request) -> Union[Call, Answer]:
        """What to call, or the answer when there is nothing to call."""
        if request.path != "/score":
            v2 = v2_service.is_path(request.path)
            return self._tensors(request) if v2 else self._elsewhere(request)
        if self.script.mode == TENSORS:
            return self._tensors(request)
        if request.method not in ("POST", "GET", "OPTIONS", "HEAD"):
            return message(405, METHOD_NOT_ALLOWED)
        ids = identify(request)
        if ids.refusal:
            return self._signed(request, ids, message(431, ids.refusal))
        try:
            if self._read is not None:
                context = self._flask.context(request) if self._flask else None
                return self._call(request, ids, self._read(request), context)
            return self._raw_call(request, ids)
        except InputError as error:
            return self._signed(request, ids, message(error.status, error.message))
        except MethodError:
            if request.method == "OPTIONS":  # what a browser needs to know is in CORS headers
                return self._signed(request, ids, Answer(200, [TEXT, NOT_FAILED], b""))
            return self._signed(request, ids, message(405, "Method not allowed"))

    def _raw_call(self, request: Request, ids: Ids) -> Call:
        context: Any = None
        if self._flask:
            context = self._flask.context(request)
            given = context.request
        else:
            made = aml.request_class()
            given = made(request.method, request.path, request.query, request.headers, request.body)
        inputs = {self.script.parameters[0].name: given}
        if self.script.wants_headers:
            inputs["request_headers"] = request.header_dict()
        return self._call(request, ids, inputs, context)

    def _call(self, request: Request, ids: Ids, inputs: Inputs, context: Optional[Context]) -> Call:
        script, context = self.script, tracing.around(request, context)
        return Call(request, ids, script.run, inputs, context, _AZURE, script.batched)

    def shared_context(self) -> Context:
        """Around a call for several requests: Flask's functions work, its ``request`` is none."""
        return self._flask.app_context() if self._flask else nullcontext()

    def _tensors(self, request: Request) -> Union[Call, Answer]:
        """A request of the V2 protocol."""
        ids = identify(request)
        if ids.refusal:
            return self._signed(request, ids, v2_service.message(431, ids.refusal))
        if request.method == "OPTIONS":  # what a browser needs to know is in CORS headers
            return self._signed(request, ids, Answer(200, [TEXT], b""))
        if self._v2 is None:
            return self._signed(request, ids, v2_service.message(404, v2_service.ABSENT))
        try:
            begun = self._v2.begin(request)
        except InputError as error:
            refusal = v2_service.message(error.status, error.message)
            return self._signed(request, ids, refusal)
        if isinstance(begun, Answer):
            return self._signed(request, ids, begun)
        dialect = Dialect(partial(self._v2.answer, begun.asked), v2_service.message)
        infer, batched = self._v2.model.infer, self._v2.batched
        context = tracing.around(request, None)
        return Call(request, ids, infer, begun.inputs, context, dialect, batched)

    def _elsewhere(self, request: Request) -> Answer:
        if request.path not in self._routes:
            return message(404, NOT_FOUND)
        methods, handler = self._routes[request.path]
        if request.method not in methods:
            return message(405, METHOD_NOT_ALLOWED)
        ids = identify(request)
        if ids.refusal:
            return self._signed(request, ids, message(431, ids.refusal))
        if request.method == "OPTIONS":
            return self._signed(
                request, ids, Answer(200, [TEXT, ("Allow", ", ".join(methods))], b"")
            )
        return self._signed(request, ids, handler(request))

    def _health(self, request: Request) -> Answer:
        return Answer(200, [TEXT], b"Healthy")

    def _get_swagger(self, request: Request) -> Answer:
        version = web.MultiDict.of(parse_qsl(request.query)).get("version", "2")
        try:
            found = self._swagger.document(version)
        except SwaggerError as error:
            return message(404, str(error))
        return Answer(200, [JSON, NOT_FAILED], json.dumps(found).encode())

    # -- after run() --------------------------------------------------------------------------

    def complete(self, call: Call, result: Any, run_ms: float) -> Answer:
        """The answer that run()'s output means."""
        try:
            answer = call.dialect.answer(result)
        except InputError as error:
            refusal = call.dialect.message(error.status, error.message)
            return self._signed(call.request, call.ids, refusal)
        except Exception as reason:
            output.log("ERROR", f"the output of run() is no answer\n{failure.trace(reason)}", 2)
            return self._signed(call.request, call.ids, call.dialect.message(500, INTERNAL))
        answer.run_ms = run_ms
        if not answer.is_ordinary:
            answer.headers.append(exec_ms(run_ms))
        return self._signed(call.request, call.ids, answer)

    def broken(self, call: Call, error: BaseException, run_ms: float) -> Answer:
        """The answer when run() raised."""
        if isinstance(error, InputError):  # our own scripts know whose fault it is
            output.log("WARNING", f"refused: {error.message}")
            answer = call.dialect.message(error.status, error.message)
            answer.run_ms = run_ms
            return self._signed(call.request, call.ids, answer)
        output.log("ERROR", f"run() failed\n{failure.trace(error)}", 2)
        said = RUN_FAILED
        if isinstance(error, ScoringTimeoutError):
            said = f"Scoring timeout after {self.timeout_ms} ms"
        answer = call.dialect.message(500, said, failed=True)
        answer.run_ms = run_ms
        return self._signed(call.request, call.ids, answer)

    def broken_off(self, call: Call, error: BaseException) -> str:
        """Why an answer ends after some of its parts, for the router; the log has the rest."""
        if isinstance(error, ReaderGoneError) or call.request.left:
            return "nobody waits for the rest"
        output.log("ERROR", f"run() failed after a part of its answer\n{failure.trace(error)}", 2)
        if isinstance(error, (ScoringTimeoutError, asyncio.TimeoutError)):
            return f"no further part came within {self.timeout_ms} ms"
        return RUN_FAILED

    def _signed(self, request: Request, ids: Ids, answer: Answer) -> Answer:
        """The same answer, with the ids and everything else that each one carries."""
        answer.ids = ids
        if self._server_version:
            answer.headers.append(("x-ms-server-version", self._server_version))
        trace_id = request.kind.trace_id
        if trace_id:
            answer.headers.append(("TraceId", trace_id))
        if self._cors is not None:
            answer.headers.extend(self._cors.headers(request))
        return answer


def message(status: int, text: str, *, failed: bool = False) -> Answer:
    """A JSON message of the server's own."""
    body = json.dumps({"message": text}).encode()
    return Answer(status, [JSON, FAILED if failed else NOT_FAILED], body)


def too_large(size: int) -> Answer:
    """Instead of an answer that no message can carry."""
    return message(
        500,
        f"run() returned {size} bytes; an answer can have at most {SCORING_BODY_BYTES_MAX}. "
        "Return less, or store the result and return where it is.",
        failed=True,
    )


def _answer_of(result: Any) -> Answer:
    if type(result) in WHOLE:
        return Answer(200, None, as_json(result))
    response: Optional[Answer] = None
    if isinstance(result, Generated):
        response = _begun(result)
    elif isinstance(result, web.Response):
        headers = [pair for pair in result.headers if pair[0].lower() != "content-length"]
        body = result.get_data()
        assert isinstance(body, bytes)
        response = Answer(result.status_code, headers, body)
    elif flask_bridge.is_response(result):
        response = flask_bridge.answer(result)
    else:
        return Answer(200, None, as_json(result))
    if response.status >= 500:
        headers = [pair for pair in response.headers if pair[0].lower() != FAILED_HEADER]
        response.headers = [*headers, FAILED]
    return response


def _begun(parts: Generated) -> Answer:
    """An answer whose body is still being made."""
    given = parts.response
    if given is None:
        return Answer(200, [("Content-Type", parts.content_type), NOT_FAILED], b"", stream=Stream())
    headers = [pair for pair in given.headers if pair[0].lower() != "content-length"]
    return Answer(given.status_code, headers, b"", stream=Stream(parts.size))


_AZURE = Dialect(_answer_of, message)


def as_json(result: Any) -> bytes:
    if result is None:
        result = {}
    try:
        return "".join(_chunks(result, 0)).encode()
    except Exception:  # what it lacks, and every complaint, is the library's
        return json.dumps(result).encode()


def _encoder() -> Callable[[Any, int], Iterable[str]]:
    """What json.dumps() makes for each call and then uses: two thirds of a small answer's time."""
    library: Any = json.encoder
    plain = json.JSONEncoder()
    keys_sorted, keys_skipped, nan_allowed = False, False, True
    try:
        made: Callable[[Any, int], Iterable[str]] = library.c_make_encoder(
            *(None, plain.default, library.encode_basestring_ascii, None, ": ", ", "),
            *(keys_sorted, keys_skipped, nan_allowed),
        )
    except (AttributeError, TypeError):  # another Python, which has none, or not like this
        return lambda value, _: plain.iterencode(value)
    return made


_chunks = _encoder()
