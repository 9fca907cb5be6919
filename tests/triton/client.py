"""NVIDIA's own client against an endpoint; run by an interpreter that has ``tritonclient[http]``.

Arguments: host and path of the endpoint, the CA's file, the endpoint's name, its key.
"""

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

ADDRESS, CA, ENDPOINT, KEY = sys.argv[1:]
client = triton.InferenceServerClient(ADDRESS, ssl=True, ssl_options={"ca_certs": CA})


def auth(**more):
    """Made anew each time: the client adds headers of one request to what it is given."""
    return {"Authorization": f"Bearer {KEY}", **more}


def given(name, array, datatype, **how):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return made


def refused(status, said, ask, *args, **more):
    try:
        ask(*args, **more)
    except InferenceServerException as error:
        assert str(error.status()) == status, error
        assert said in str(error), error
    else:
        raise AssertionError(f"{ask} was answered")


def what_is_there():
    assert client.is_server_live(headers=auth())
    assert client.is_server_ready(headers=auth())
    assert client.is_model_ready(ENDPOINT, headers=auth())
    assert client.is_model_ready(ENDPOINT, "1", headers=auth())
    assert not client.is_model_ready("other", headers=auth())
    assert "binary_tensor_data" in client.get_server_metadata(headers=auth())["extensions"]
    said = client.get_model_metadata(ENDPOINT, headers=auth())
    assert said["name"] == ENDPOINT and said["versions"] == ["1"], said
    assert said["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 3]}, said


def inference():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    words = np.array(["a", "ü"], dtype=object)
    for binary in (True, False):
        inputs = [given("x", x, "FP32", binary_data=binary)]
        inputs.append(given("words", words, "BYTES", binary_data=binary))
        outputs = [
            triton.InferRequestedOutput("sum", binary_data=binary),
            triton.InferRequestedOutput("words", binary_data=not binary),
        ]
        found = client.infer(ENDPOINT, inputs, outputs=outputs, request_id="7", headers=auth())
        assert found.get_response()["id"] == "7"
        assert found.as_numpy("sum").tolist() == [3.0, 12.0]
        assert found.as_numpy("sum").dtype == np.float32
        texts = [t.decode() if isinstance(t, bytes) else t for t in found.as_numpy("words")]
        assert texts == ["a", "ü"], texts
    for packing in (None, "gzip", "deflate"):
        found = client.infer(
            ENDPOINT,
            inputs,
            headers=auth(),
            request_compression_algorithm=packing,
            response_compression_algorithm=packing,
        )
        assert found.as_numpy("sum").tolist() == [3.0, 12.0]
        assert found.as_numpy("words").tolist() == [b"a", "ü".encode()]


def many_at_once():
    """Over several connections; each gets its own answer."""
    pool = triton.InferenceServerClient(
        ADDRESS, ssl=True, ssl_options={"ca_certs": CA}, concurrency=8
    )
    words = given("words", np.array(["w"], dtype=object), "BYTES")
    rows = [np.full((1, 3), number, dtype=np.float32) for number in range(40)]
    asked = [
        pool.async_infer(ENDPOINT, [given("x", row, "FP32"), words], headers=auth()) for row in rows
    ]
    assert [each.get_result().as_numpy("sum")[0] for each in asked] == [3.0 * n for n in range(40)]
    pool.close()


def refusals():
    """A model's own are 424 as for /score, with the model's words; the router's are its own."""
    x = given("x", np.zeros((1, 4), dtype=np.float32), "FP32")
    words = given("words", np.array(["w"], dtype=object), "BYTES")
    refused(
        "424",
        "and the input is FP32, shape [1, 4]",
        client.infer,
        ENDPOINT,
        [x, words],
        headers=auth(),
    )
    refused(
        "424", "there is no model 'other' here", client.infer, "other", [x, words], headers=auth()
    )
    refused("401", "the key is missing or wrong", client.infer, ENDPOINT, [x, words])
    refused(
        "404",
        "has no deployment 'nothing'",
        client.infer,
        ENDPOINT,
        [x, words],
        headers=auth(**{"azureml-model-deployment": "nothing"}),
    )


def chosen_deployment():
    """The header of Azure picks the deployment for these requests too."""
    green = auth(**{"azureml-model-deployment": "green"})
    refused("424", "has no infer(inputs)", client.get_server_metadata, headers=green)


what_is_there()
inference()
many_at_once()
refusals()
chosen_deployment()
client.close()
print("all is well")
