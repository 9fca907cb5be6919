"""HTTP as scripts see it when Flask is not there: requests, headers and responses in small."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Optional, Union
from urllib.parse import parse_qsl, unquote

Pairs = list[tuple[str, str]]

_UNREAD = object()
_NOT_ASCII = re.compile(r"(?:%[89A-Fa-f][0-9A-Fa-f])+")


class Headers:
    """Headers in order, names in any case. Iterating gives pairs, as with Flask's."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs: Pairs = list(pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: str) -> bool:
        return any(key.lower() == name.lower() for key, _ in self._pairs)

    def __getitem__(self, name: str) -> str:
        found = self.getlist(name)
        if not found:
            raise KeyError(name)
        return found[0]

    def __setitem__(self, name: str, value: object) -> None:
        self.remove(name)
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        self.remove(name)

    def get(self, name: str, default: Any = None, type: Any = None) -> Any:
        found = self.getlist(name)
        return _converted(found[0], default, type) if found else default

    def getlist(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key.lower() == name.lower()]

    def add(self, name: str, value: object) -> None:
        text = str(value)
        if "\r" in text or "\n" in text:
            raise ValueError("a header's value cannot hold a line break")
        self._pairs.append((name, text))

    def remove(self, name: str) -> None:
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != name.lower()]

    def extend(self, pairs: Any) -> None:
        for name, value in pairs.items() if hasattr(pairs, "items") else pairs:
            self.add(name, value)

    def items(self) -> Pairs:
        return list(self._pairs)

    def keys(self) -> list[str]:
        return [name for name, _ in self._pairs]

    def values(self) -> list[str]:
        return [value for _, value in self._pairs]


class MultiDict(dict[str, list[Any]]):
    """A mapping of names to the first of their values; ``getlist`` gives all of them."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, Any]]) -> MultiDict:
        made = cls()
        for name, value in pairs:
            made.setdefault(name, []).append(value)
        return made

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name)[0]

    def get(self, name: str, default: Any = None, type: Any = None) -> Any:
        return _converted(self[name], default, type) if name in self else default

    def getlist(self, name: str) -> list[Any]:
        return list(super().get(name, ()))

    def items(self, multi: bool = False) -> Any:
        if multi:
            return [(name, value) for name, all in super().items() for value in all]
        return [(name, self[name]) for name in self]

    def values(self) -> Any:
        return [self[name] for name in self]

    def to_dict(self, flat: bool = True) -> dict[str, Any]:
        return dict(self.items()) if flat else {name: self.getlist(name) for name in self}


def _converted(value: Any, default: Any, type: Any) -> Any:
    if type is None:
        return value
    try:
        return type(value)
    except (ValueError, TypeError):
        return default


class UploadedFile:
    """One file of a form."""

    def __init__(self, name: str, filename: str, content_type: str, data: bytes) -> None:
        self.name = name
        self.filename = filename
        self.content_type = self.mimetype = content_type
        self.stream = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        return self.stream.seek(position, whence)

    def save(self, target: Any) -> None:
        """Writes it into a path or an open binary file."""
        if hasattr(target, "write"):
            target.write(self.stream.read())
        else:
            with open(target, "wb") as file:
                file.write(self.stream.read())

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.stream)


class Request:
    """What scripts with ``@rawhttp`` commonly use of Flask's request."""

    def __init__(
        self, method: str, path: str, query: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query.encode()
        self.headers = Headers((name.title(), value) for name, value in headers)
        self._body = body
        self._form: Optional[tuple[MultiDict, MultiDict]] = None
        self._json: Any = _UNREAD

    @property
    def data(self) -> bytes:
        return self._body

    def get_data(
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> Union[bytes, str]:
        return self._body.decode("utf-8", "replace") if as_text else self._body

    @property
    def stream(self) -> io.BytesIO:
        return io.BytesIO(self._body)

    @property
    def content_type(self) -> Optional[str]:
        found = self.headers.get("Content-Type")
        return found if found is None else str(found)

    @property
    def mimetype(self) -> str:
        return (self.content_type or "").partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int:
        return len(self._body)

    @property
    def is_json(self) -> bool:
        kind = self.mimetype
        return kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        )

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        if self._json is not _UNREAD and cache:
            return self._json
        try:
            if not (force or self.is_json):
                raise ValueError("the request's Content-Type is not application/json")
            self._json = json.loads(self._body)
        except ValueError:
            if silent:
                return None
            raise
        return self._json

    @property
    def json(self) -> Any:
        return self.get_json()

    @property
    def args(self) -> MultiDict:
        return MultiDict.of(parse_qsl(self.query_string.decode(), keep_blank_values=True))

    @property
    def form(self) -> MultiDict:
        return self._parsed_form()[0]

    @property
    def files(self) -> MultiDict:
        return self._parsed_form()[1]

    @property
    def values(self) -> MultiDict:
        return MultiDict.of([*self.args.items(multi=True), *self.form.items(multi=True)])

    @property
    def host(self) -> str:
        return str(self.headers.get("Host", "localhost"))

    @property
    def host_url(self) -> str:
        return f"http://{self.host}/"

    @property
    def base_url(self) -> str:
        return f"http://{self.host}{self.path}"

    @property
    def url(self) -> str:
        query = _NOT_ASCII.sub(lambda found: unquote(found[0]), self.query_string.decode())
        return f"{self.base_url}?{query}" if query else self.base_url

    @property
    def full_path(self) -> str:
        return f"{self.path}?{self.query_string.decode()}"

    def _parsed_form(self) -> tuple[MultiDict, MultiDict]:
        if self._form is None:
            if self.mimetype == "application/x-www-form-urlencoded":
                fields = parse_qsl(self._body.decode("utf-8", "replace"), keep_blank_values=True)
                self._form = MultiDict.of(fields), MultiDict()
            elif self.mimetype == "multipart/form-data":
                self._form = _multipart(self.content_type or "", self._body)
            else:
                self._form = MultiDict(), MultiDict()
        return self._form


def _multipart(content_type: str, body: bytes) -> tuple[MultiDict, MultiDict]:
    """Fields and files of a form."""
    from email.parser import BytesParser
    from email.policy import HTTP

    head = f"Content-Type: {content_type}\r\n\r\n".encode("utf-8", "replace")
    fields: list[tuple[str, Any]] = []
    files: list[tuple[str, Any]] = []
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        data = part.get_payload(decode=True)
        if not isinstance(data, bytes):  # a form inside of the form
            continue
        filename = part.get_filename()
        if filename is None:
            fields.append((name, data.decode("utf-8", "replace")))
        else:
            files.append((name, UploadedFile(name, filename, part.get_content_type(), data)))
    return MultiDict.of(fields), MultiDict.of(files)


class Response:
    """An answer with a status and headers of the script's choice."""

    def __init__(self, body: Any = b"", status: Any = 200, mimetype: Optional[str] = None) -> None:
        self._body = body
        self.status_code = int(str(status).split(" ", 1)[0])
        self.headers = Headers()
        kind = mimetype or "text/html"
        self.headers["Content-Type"] = (
            f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        )

    def get_data(self, as_text: bool = False) -> Union[bytes, str]:
        """The whole body; an iterable is read to its end."""
        body = self._body = joined(self._body)
        return body.decode("utf-8", "replace") if as_text else body

    @property
    def parts(self) -> Any:
        """An iterator that is still to be read, plain or asynchronous; None: the body is here."""
        body = self._body
        return body if hasattr(body, "__next__") or hasattr(body, "__anext__") else None

    def set_data(self, value: Union[bytes, str]) -> None:
        self._body = value

    @property
    def data(self) -> Any:
        return self.get_data()

    @property
    def content_type(self) -> str:
        return str(self.headers.get("Content-Type", ""))

    @property
    def mimetype(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()


def joined(body: Any) -> bytes:
    """Text, bytes, or an iterable of them, as bytes."""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in body)
