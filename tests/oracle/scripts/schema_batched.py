"""run() with inference-schema's decorators, and run_batch() with the same answers."""

import numpy as np
import pandas as pd
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema


def init():
    pass


@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema("frame", PandasParameterType(pd.DataFrame({"a": [1], "b": ["x"]})))
@input_schema("scale", StandardPythonParameterType(1.5))
@output_schema(StandardPythonParameterType({"sum": 1.0}))
def run(data, frame, scale=2.0):
    return scored(data, frame, scale)


def run_batch(items):
    return [scored(item["data"], item["frame"], item["scale"]) for item in items]


def scored(data, frame, scale):
    return {
        "sum": float(data.sum()) * scale,
        "types": [type(data).__name__, type(frame).__name__, type(scale).__name__],
        "shape": list(data.shape),
        "columns": list(frame.columns),
    }
