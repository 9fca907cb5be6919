"""Requests as Flask's, for scripts in whose environment Flask is and that use it."""

from __future__ import annotations

import io
import sys
from types import ModuleType
from typing import Any

from headgate_worker import aml
from headgate_worker.request import Answer, Request


class FlaskBridge:
    """Puts a script's call into a Flask request context, as Azure's server does."""

    def __init__(self, flask: ModuleType) -> None:
        self._app = flask.Flask("headgate_worker", static_folder=None)
        self._app.request_class = aml.request_class()
        self._app.add_url_rule("/score", "score", lambda: "", methods=["GET", "POST", "OPTIONS"])

    def context(self, request: Request) -> Any:
        """A context manager; inside of it ``flask.request`` and ``jsonify`` work."""
        return self._app.request_context(environ(request))

    def app_context(self) -> Any:
        """A context manager; inside of it ``jsonify`` works, and ``flask.request`` is none."""
        return self._app.app_context()


def environ(request: Request) -> dict[str, Any]:
    """The request as WSGI has it."""
    made: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        if key == "CONTENT_LENGTH":
            continue
        if key != "CONTENT_TYPE":
            key = f"HTTP_{key}"
        made[key] = f"{made[key]},{value}" if key in made else value
    return made


def is_response(output: Any) -> bool:
    """Whether run() gave a response of Flask's, or of the library below it."""
    werkzeug = sys.modules.get("werkzeug.wrappers")
    return werkzeug is not None and isinstance(output, werkzeug.Response)


def answer(response: Any) -> Answer:
    """Flask's response as ours, with its whole body."""
    response.direct_passthrough = False
    body = response.get_data()
    headers = [(name, value) for name, value in response.headers if name != "Content-Length"]
    response.close()
    return Answer(response.status_code, headers, body)
