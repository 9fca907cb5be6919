"""run() with @rawhttp: the query says what to do."""

import json

from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
from azureml_inference_server_http.api.aml_response import AMLResponse as SameResponse


def init():
    pass


@rawhttp
def run(request: AMLRequest):
    return globals()["do_" + request.args.get("do", "describe")](request)


def do_describe(request):
    return {
        "method": request.method,
        "path": request.path,
        "args": request.args.to_dict(flat=False),
        "bytes": len(request.get_data()),
        "text": request.get_data(as_text=True),
        "content_type": request.content_type,
        "mimetype": request.mimetype,
        "custom": request.headers.get("x-custom"),
        "absent": request.headers.get("x-absent", "none"),
        "is_json": request.is_json,
        "full_path": request.full_path,
        "query": request.query_string.decode(),
        "host": request.host,
        "url": request.url,
        "base_url": request.base_url,
        "number": request.args.get("n", 7, type=int),
    }


def do_json(request):
    return {"json": request.get_json(force=True), "silent": request.get_json(silent=True)}


def do_property(request):
    return {"json": request.json}


def do_form(request):
    return {
        "fields": request.form.to_dict(flat=False),
        "files": [
            [name, file.filename, file.content_type, file.read().decode()]
            for name, file in request.files.items()
        ],
    }


def do_bytes(request):
    image = bytes(range(256))
    return AMLResponse(image, 200, {"Content-Type": "image/png"})


def do_text(request):
    return AMLResponse("some text", 201)


def do_none(request):
    return AMLResponse(None, 200)


def do_json_str(request):
    return SameResponse({"a": [1, "ü"]}, 202, json_str=True)


def do_headers(request):
    headers = {"X-Many": "a, b,c", "Cache-Control": "no-store", "x-ms-run-function-failed": "x"}
    return AMLResponse("", 200, headers)


def do_lower_case_type(request):
    return AMLResponse("<a/>", 200, {"content-type": "application/xml"})


def do_error(request):
    return AMLResponse("we are broken", 503)


def do_client_error(request):
    return AMLResponse({"error": "bad"}, 422, json_str=True)


def do_failed(request):
    return AMLResponse("no", 200, run_function_failed=True)


def do_own_ids(request):
    return AMLResponse("", 200, {"x-request-id": "mine", "x-ms-client-request-id": "mine"})


def do_generator(request):
    return AMLResponse((f"part {number}\n" for number in range(3)), 200)


def do_line_break(request):
    return AMLResponse("", 200, {"X-Bad": "a\r\nSet-Cookie: b"})


def do_status_text(request):
    return AMLResponse("", "299 Odd")


def do_plain(request):
    return {"plain": True}


def do_raise(request):
    raise KeyError("nothing here")


def do_bare_generator(request):
    return (text for text in ("a", "b"))


def do_dumps(request):
    return json.dumps({"twice": "encoded"})
