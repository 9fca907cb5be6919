"""Azure's scoring script for bodies that are bytes."""

import functions
from azureml.contrib.services.aml_request import rawhttp


def init():
    pass


@rawhttp
def run(request):
    return functions.binary(request.get_data())
