"""Import an archive's handlers, and run them as SageMaker's inference toolkit does.

``model_fn`` loads the model. A request is answered by ``transform_fn``, or by ``input_fn``, ``predict_fn`` and
``output_fn``, each of which has a default. Every handler can have a further argument, the context. Its methods are
those of the multi-model server's context, which the toolkit passes on; a request is a batch of one, so every ``idx`` is
0.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from airflow_sm_plugin.local.serving import codecs

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SERVER_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})
"""Headers about the transport of the answer, which a handler cannot set."""
_STATUSES = range(200, 600)

CONTENT_TYPE = "Content-Type"
ACCEPT = "Accept"
TEXT = {CONTENT_TYPE: "text/plain; charset=utf-8"}
_CODE_IN_MODEL = "/opt/ml/model/"


class NoHandlers(Exception):
    """The archive has no usable code. Retrying does not help: correct the archive."""


def status_of(error: BaseException) -> int:
    """Read an exception's ``status_code``; 500 unless that is an HTTP error status."""
    status = getattr(error, "status_code", None)
    is_status = isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599
    return status if isinstance(status, int) and is_status else 500


class RequestProcessor:
    """The request's headers (names are case-insensitive), and the response's status and headers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._by_name = {name.lower(): value for name, value in headers.items()}
        self.status = 200
        self.phrase = ""
        self.response_headers: dict[str, str] = {}

    def get_request_property(self, key: str) -> str | None:
        return self._by_name.get(key.lower())

    def get_request_properties(self) -> dict[str, str]:
        return dict(self._headers)

    def add_response_property(self, key: str, value: str) -> None:
        """Set a response header. Raises ValueError for a name or value that a header cannot have."""
        if not _HEADER_NAME.fullmatch(key) or key.lower() in _SERVER_HEADERS:
            raise ValueError(f"{key!r} is no response header that a handler can set")
        if not value.isprintable() or not value.isascii():
            raise ValueError(f"the value of response header {key!r} is not printable US-ASCII")
        for name in [name for name in self.response_headers if name.lower() == key.lower()]:
            del self.response_headers[name]
        self.response_headers[key] = value

    def report_status(self, code: int, reason_phrase: str = "") -> None:
        """Set the response's HTTP status. Raises ValueError unless it is that of a final answer."""
        if code not in _STATUSES:
            raise ValueError(f"{code!r} is no HTTP status from {_STATUSES.start} to {_STATUSES.stop - 1}")
        self.status = int(code)
        self.phrase = reason_phrase


class RequestContext:
    """The optional last argument of handlers."""

    def __init__(self, headers: Mapping[str, str], model_dir: str) -> None:
        self.request_processor = [RequestProcessor(headers)]
        self.system_properties: dict[str, object] = {"model_dir": model_dir, "gpu_id": None, "batch_size": 1}

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "Content-Type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        headers = self.request_processor[idx].response_headers.items()
        return next((value for name, value in headers if name.lower() == "content-type"), None)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return dict(self.request_processor[idx].response_headers)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.request_processor[idx].report_status(code, phrase)


@dataclass(frozen=True)
class ContainerAnswer:
    """A container's answer to an invocation."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Program:
    """The module with the handlers, and the folders from which it and its own imports are imported."""

    module: str
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class _Handler:
    """A handler function of the archive, or a default."""

    function: Callable[..., object]
    wants_context: bool = False

    def __call__(self, context: RequestContext, *arguments: object) -> object:
        return self.function(*arguments, context) if self.wants_context else self.function(*arguments)


class LoadedModel:
    """A loaded model and its handlers. Thread-safe if the handlers are.

    :param code_dir: the code's folder when the code is not in the archive
    :param load_code: imports the archive's program; by default an ordinary import, for a process with one archive
    """

    def __init__(
        self,
        model_dir: Path,
        environment: Mapping[str, str],
        *,
        code_dir: Path | None = None,
        load_code: Callable[[Program], ModuleType] | None = None,
    ) -> None:
        self._model_dir = str(model_dir)
        self._default_accept = environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or codecs.JSON
        module = (load_code or _imported)(program_of(model_dir, environment, code_dir))
        parts = [name for name in ("input_fn", "predict_fn", "output_fn") if hasattr(module, name)]
        if hasattr(module, "transform_fn") and parts:
            raise NoHandlers(f"transform_fn cannot be used together with {', '.join(parts)}")
        self._input = _handler(module, "input_fn", 2) or _Handler(codecs.decode)
        self._predict = _handler(module, "predict_fn", 2) or _Handler(_default_predict)
        self._output = _handler(module, "output_fn", 2) or _Handler(
            functools.partial(_default_output, self._default_accept), wants_context=True
        )
        self._transform = _handler(module, "transform_fn", 4)
        load = _handler(module, "model_fn", 1)
        if load is None:
            raise NoHandlers(
                "the archive's code has no model_fn; write one that loads the model and returns it"
            )
        self._model = load(RequestContext({}, self._model_dir), self._model_dir)

    def answer(self, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        """Run the handlers on a request. The caller answers their exceptions."""
        context = RequestContext(headers, self._model_dir)
        request = context.request_processor[0]
        content_type = request.get_request_property(CONTENT_TYPE) or codecs.BYTES
        accept = request.get_request_property(ACCEPT) or codecs.ANY
        accept = self._default_accept if accept == codecs.ANY else accept
        data = body.decode() if codecs.media_type(content_type) in codecs.TEXT_TYPES else body
        result = self._run(context, data, content_type, accept)
        answered_type = context.get_response_content_type(0) or codecs.preferred(accept, self._default_accept)
        if isinstance(result, tuple):
            result, answered_type = result[0], str(result[1])
        context.set_response_content_type(0, answered_type)  # checks the value
        return ContainerAnswer(request.status, _as_bytes(result), dict(request.response_headers))

    def _run(self, context: RequestContext, data: str | bytes, content_type: str, accept: str) -> object:
        if self._transform is not None:
            return self._transform(context, self._model, data, content_type, accept)
        read = self._input(context, data, content_type)
        prediction = self._predict(context, read, self._model)
        return self._output(context, prediction, accept)


def error_answer(error: BaseException, status: int) -> ContainerAnswer:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception of the archive's own, whose text raises
        text = ""
    return ContainerAnswer(status, (text or type(error).__name__).encode(errors="backslashreplace"), TEXT)


def program_of(model_dir: Path, environment: Mapping[str, str], code_dir: Path | None = None) -> Program:
    """Find ``<SAGEMAKER_PROGRAM>.py``, else ``inference.py``, in the code's folder. Raises NoHandlers.

    The folder is ``code`` in the archive, or SAGEMAKER_SUBMIT_DIRECTORY: in S3 (fetched to *code_dir*), or below
    ``/opt/ml/model/``.
    """
    code = code_dir or model_dir / "code"
    directory = environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    if directory.startswith(_CODE_IN_MODEL) and (model_dir / directory.removeprefix(_CODE_IN_MODEL)).is_dir():
        code = model_dir / directory.removeprefix(_CODE_IN_MODEL)
    program = (environment.get("SAGEMAKER_PROGRAM") or "inference").removesuffix(".py")
    candidates = [code / f"{program}.py", code / "inference.py"]
    script = next((path for path in candidates if path.is_file()), None)
    if script is None:
        raise NoHandlers(
            "the archive holds no code/inference.py: an embedded container runs the code in model.tar.gz, "
            "not the image"
        )
    if (code / "requirements.txt").is_file():
        sys.stdout.write("code/requirements.txt is ignored: the embedded SageMaker's own packages are used\n")
    return Program(script.stem, (script.parent, *([code] if script.parent != code else [])))


def _imported(program: Program) -> ModuleType:
    sys.path[:0] = [str(folder) for folder in program.folders]
    return importlib.import_module(program.module)


def _handler(module: ModuleType, name: str, arguments: int) -> _Handler | None:
    function = getattr(module, name, None)
    if function is None:
        return None
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    if len(positional) not in {arguments, arguments + 1}:
        raise NoHandlers(
            f"{name} takes {len(positional)} arguments; it gets {arguments}, or one more for the context"
        )
    return _Handler(function, wants_context=len(positional) == arguments + 1)


def _default_predict(data: object, model: object) -> object:
    predict = getattr(model, "predict", None)
    if predict is None:
        raise TypeError(f"the default predict_fn calls model.predict, which a {type(model).__name__} has not")
    return predict(data)


def _default_output(default: str, prediction: object, accept: str, context: RequestContext) -> str | bytes:
    body, content_type = codecs.encode(prediction, accept, default=default)
    if context.get_response_content_type(0) is None:
        context.set_response_content_type(0, content_type)
    return body


def _as_bytes(result: object) -> bytes:
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)
    if isinstance(result, str):
        return result.encode()
    raise TypeError(
        f"the handler returned a {type(result).__name__}; text, bytes or (body, content type) are answered"
    )
