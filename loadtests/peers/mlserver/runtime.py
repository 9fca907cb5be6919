"""MLServer: a custom runtime. Its requests are the Open Inference Protocol's (JSON)."""

import os
import sys

sys.path.insert(0, os.environ["LOADTESTS_MODELS"])
import functions
from mlserver import MLModel, types


class Scoring(MLModel):
    async def load(self) -> bool:
        self._run = getattr(functions, os.environ["LOADTESTS_WORKLOAD"])
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        tensor = payload.inputs[0]
        rows, columns = tensor.shape
        flat = tensor.data.root
        data = [flat[at : at + columns] for at in range(0, rows * columns, columns)]
        result = self._run({"data": data})["result"]
        values = result if isinstance(result, list) else [float(result)]
        output = types.ResponseOutput(
            name="result", shape=[len(values)], datatype="FP64", data=values
        )
        return types.InferenceResponse(model_name=self.name, outputs=[output])
