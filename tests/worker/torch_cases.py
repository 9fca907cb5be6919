"""What the helpers do with PyTorch; run by an interpreter that has it."""

import sys

from headgate_worker import tensors

assert "torch" not in sys.modules and "numpy" not in sys.modules  # imported when needed only

import torch  # noqa: E402


def shapes() -> None:
    a, b = torch.tensor([1.0]), torch.tensor([2.0, 3.0])
    assert tensors.stack([a, a]).tolist() == [[1.0], [1.0]]
    assert tensors.stack([b, [4.0, 5.0]]).tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert tensors.stack([a, b], pad=-1).tolist() == [[1.0, -1.0], [2.0, 3.0]]
    joined, sizes = tensors.concatenate([a, b])
    assert isinstance(joined, torch.Tensor) and sizes == [1, 2]
    assert [each.tolist() for each in tensors.split(joined, sizes)] == [[1.0], [2.0, 3.0]]
    half = torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True)
    assert tensors.as_numpy(half).tolist() == [1.5]


class Named(torch.nn.Module):
    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        assert ids.dtype == torch.int64 and torch.is_inference_mode_enabled()
        return {"twice": ids * 2, "scaled": ids * scale}


def predictors() -> None:
    layer = torch.nn.Linear(2, 3).train()
    predict = tensors.Predictor(layer)
    assert not layer.training and predict.device.type in ("cpu", "cuda", "mps")
    answers = predict([[1.0, 2.0], [3.0, 4.0]])
    single = predict([[3.0, 4.0]])
    assert len(answers) == 2 and answers[0].shape == (3,)
    assert abs(answers[1] - single[0]).max() < 1e-6
    assert answers[0].dtype == "float32"  # of the parameters, not of Python's numbers
    named = tensors.Predictor(Named(), device="cpu", pad=0)
    out = named([{"ids": [1], "scale": [0.5]}, {"ids": [2, 3], "scale": [2.0]}])
    assert [each["twice"].tolist() for each in out] == [[2, 0], [4, 6]]
    assert out[1]["scaled"].tolist() == [4.0, 6.0]


shapes()
predictors()
print("all is well")
