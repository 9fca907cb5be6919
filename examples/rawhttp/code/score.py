"""Measures a grey-scale image (binary PGM) that arrives as the raw body of the request.

With ``@rawhttp`` the script gets the whole HTTP request and may answer with a status, a content
type and headers of its own.
"""

import re

from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

# magic number, width, height, largest value, then exactly one blank before the pixels
PGM_HEAD = re.compile(rb"P5\s+(\d{1,5})\s+(\d{1,5})\s+(\d{1,3})\s")


def init():
    """Nothing to load."""


@rawhttp
def run(request: AMLRequest):
    """POST an image to have it measured; GET tells what is expected."""
    if request.method == "GET":
        wanted = {"send": "a binary PGM image", "content_type": "image/x-pgm"}
        return AMLResponse(wanted, 200, json_str=True)
    if request.content_type != "image/x-pgm":
        return AMLResponse(f"expected image/x-pgm, not {request.content_type}", 415)
    try:
        measured = measure(request.get_data())
    except ValueError as error:
        return AMLResponse(str(error), 422)
    return AMLResponse(measured, 200, json_str=True)


def measure(image):
    """Size and mean brightness (0 to 1) of a binary PGM image."""
    head = PGM_HEAD.match(image)
    if head is None:
        raise ValueError("not a binary PGM image")
    width, height, white = map(int, head.groups())
    pixels = image[head.end() :]
    if len(pixels) != width * height or not 0 < white < 256:
        raise ValueError(f"{width} x {height} one-byte pixels expected, {len(pixels)} bytes sent")
    return {"width": width, "height": height, "brightness": sum(pixels) / len(pixels) / white}
