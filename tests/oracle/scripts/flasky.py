"""A script that uses Flask itself."""

import flask
from azureml_inference_server_http.api.aml_request import rawhttp


def init():
    pass


@rawhttp
def run(request):
    what = request.args["do"]
    if what == "jsonify":
        return flask.jsonify(method=flask.request.method, same=request.args["do"])
    if what == "response":
        return flask.Response("<p>hi</p>", status=203, headers={"X-From": "flask"})
    if what == "mimetype":
        return flask.Response(b"\0\1", mimetype="application/octet-stream")
    if what == "broken":
        return flask.Response("broken", status=500)
    if what == "abort":
        flask.abort(418)
    if what == "stream":
        return flask.Response(flask.stream_with_context(iter(["x", flask.request.method])))
    if what == "cookie":
        response = flask.make_response("cookie")
        response.set_cookie("a", "b")
        return response
    return {"isinstance": isinstance(request, flask.Request)}
