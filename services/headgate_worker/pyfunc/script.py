"""The scoring script of an MLflow model that was deployed without one."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Hashable
from typing import Any, NamedTuple, NoReturn, Optional

from headgate_worker import failure, output, v2
from headgate_worker.batching import Batched
from headgate_worker.inputs import InputError, Inputs
from headgate_worker.pyfunc import batches, given, schemas, signature, tensors, values
from headgate_worker.pyfunc.collected import Collected
from headgate_worker.script import IMPORT_ERROR, INIT_FAILED, OBJECT, Script, ScriptError
from headgate_worker.settings import Settings

NAME = "the scoring of MLflow models"
REASON_CHARS_MAX = 1_000
# MLflow's own functions that compare a request with the signature; all else is the model's.
_CHECKS = ("_enforce_", "_validate_prediction_input", "_validate_data_against_type_hint")
_ENTRY = os.path.join("mlflow", "pyfunc", "__init__.py")  # where predict() of a model is
_PARAMS = "_enforce_params_schema"
_ABSENT = object()


def load(settings: Settings) -> Script:
    """The script; the model itself is loaded by its ``init()``."""
    folder = os.path.join(settings.model_dir, settings.mlflow_folder)
    model = _Model(os.path.abspath(folder))
    parameters = tuple(inspect.signature(model.run).parameters.values())
    script = Script(
        NAME, model.folder, model.init, model.run, OBJECT, parameters, False, model.describe
    )
    batched = model.batched() if settings.batch_max_rows else None
    return script._replace(batched=batched, tensors=model.tensors)


class _Asked(NamedTuple):
    """A request, shaped for the model; ``id`` is the request's."""

    data: Any
    params: Optional[dict[str, Any]]
    id: str


def loaded(folder: str) -> Any:
    """The model. Raises ScriptError that says what keeps it from being loaded."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a server tells nobody else
    try:
        import mlflow.pyfunc
    except ImportError as error:
        _cannot(
            IMPORT_ERROR,
            error,
            folder,
            "MLflow cannot be imported. Add mlflow, or mlflow-skinny with numpy and pandas, "
            "to the deployment's environment; or leave the environment out, and it is made "
            "from the model's own files",
        )
    try:
        return mlflow.pyfunc.load_model(folder)
    except BaseException as error:
        advice = (
            f"Add the package of {error.name!r} to the requirements that the model is logged "
            "with, or give the deployment an environment that has it"
            if isinstance(error, ModuleNotFoundError)
            else ""
        )
        _cannot(INIT_FAILED, error, folder, advice)


class _Model:
    """The loaded model and what it wants."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._wanted: Optional[signature.Signature] = None
        self._example: Any = None

    def init(self) -> None:
        """Raises ScriptError that says what keeps the model from being loaded."""
        self._model = loaded(self.folder)
        metadata = self._model.metadata
        free = getattr(metadata, "_is_signature_from_type_hint", bool)()
        found = metadata.signature.to_dict() if metadata.signature is not None else None
        self._wanted = signature.read(found, free=free)
        info = getattr(metadata, "saved_input_example_info", None)
        self._example = schemas.example(self.folder, info, self._wanted)
        self._takes_params = "params" in inspect.signature(self._model.predict).parameters
        self._collected = Collected()
        said = self._wanted.wants() if self._wanted else "it has no signature: nothing is checked"
        output.log("INFO", f"the MLflow model is loaded: {said}")

    def run(self, input_data: Any = _ABSENT, params: Any = None) -> Any:
        """The prediction as JSON has it. Raises InputError when the caller is to blame."""
        asked = self._asked(input_data, params)
        result = self._predict(asked.data, asked.params)
        self._collected.outputs(result)
        return values.jsonable(result)

    def batched(self) -> Batched:
        """How requests share a prediction; those with params do not."""

        def key(asked: _Asked) -> Hashable:
            return object() if asked.params else batches.key(asked.data)

        def many(asked: list[_Asked]) -> list[Any]:
            if len(asked) == 1:
                results = [self._predict(asked[0].data, asked[0].params)]
            else:
                sizes = [batches.rows(each.data) for each in asked]
                data = batches.joined([each.data for each in asked])
                results = batches.parted(self._predict(data, None), sizes)
            for each, result in zip(asked, results):
                before = output.REQUEST.set(each.id)  # whose rows these are, for collections
                self._collected.outputs(result)
                output.REQUEST.reset(before)
            return [values.jsonable(result) for result in results]

        def item(inputs: Inputs) -> _Asked:
            return self._asked(**inputs)

        return Batched(item, lambda asked: batches.rows(asked.data), key, many)

    def tensors(self) -> Optional[v2.Model]:
        """The model in the V2 protocol, if its signature says enough."""
        inputs = tensors.inputs(self._wanted)
        if inputs is None or self._wanted is None:
            return None
        outputs = tensors.outputs(self._wanted)
        return v2.Model(self._infer, inputs, outputs, platform="mlflow", exact=False)

    def _infer(self, inputs: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        assert self._wanted is not None
        known = {each.get("name") for each in self._wanted.params}
        params = {name: value for name, value in parameters.items() if name in known}
        asked = self._asked(tensors.as_input(inputs, self._wanted), params)
        result = self._predict(asked.data, asked.params)
        self._collected.outputs(result)
        return tensors.as_output(result, self._wanted)

    def _asked(self, input_data: Any = _ABSENT, params: Any = None) -> _Asked:
        """Raises InputError for what does not fit the signature."""
        if input_data is _ABSENT:
            raise given.missing(self._wanted)
        if params is not None and not isinstance(params, dict):
            raise InputError(400, "`params` must be an object of names and values")
        data = values.for_model(given.shaped(input_data, self._wanted), self._wanted)
        self._collected.inputs(data)
        return _Asked(data, params, output.REQUEST.get())

    def _predict(self, data: Any, params: Optional[dict[str, Any]]) -> Any:
        """Raises InputError for what MLflow refuses."""
        more = {"params": params} if params and self._takes_params else {}
        try:
            return self._model.predict(data, **more)
        except Exception as error:
            reason = _refusal(error, self._wanted)
            if reason is None:
                raise
            raise reason from error

    def describe(self) -> tuple[schemas.Json, schemas.Json]:
        """The schemas of requests and answers."""
        return schemas.request(self._wanted, self._example), schemas.answer(self._wanted)


def _refusal(error: Exception, wanted: Optional[signature.Signature]) -> Optional[InputError]:
    """Why MLflow did not let the request through to the model; None when it did."""
    check = "" if isinstance(error, TimeoutError) else _check(error)
    if not check:
        return None
    said = str(error).rpartition("Error: ")[2]  # before it, versions repeat the whole data
    said = said.strip()[:REASON_CHARS_MAX].rstrip(".")
    if wanted is not None and check == _PARAMS:
        return InputError(400, f"params do not fit the model: {said}; {wanted.takes()}")
    return given.misfit(said, wanted)


def _check(error: Exception) -> str:
    """The function of MLflow's that refused the request; empty when none did.

    A model may ask other MLflow models: what those refuse is not the caller's fault.
    """
    found, models = "", 0
    for frame in traceback.extract_tb(error.__traceback__):
        if f"{os.sep}mlflow{os.sep}" not in frame.filename:
            continue
        models += frame.name == "predict" and frame.filename.endswith(_ENTRY)
        if models > 1:
            return ""
        if frame.name.startswith(_CHECKS) and found != _PARAMS:
            found = frame.name
    return found


def _cannot(code: str, error: BaseException, root: str, advice: str) -> NoReturn:
    output.log("ERROR", failure.trace(error), 2)
    said = f"The MLflow model cannot be loaded: {failure.describe(error, root)}"
    raise ScriptError(code, f"{said}\n{advice}." if advice else said) from None
