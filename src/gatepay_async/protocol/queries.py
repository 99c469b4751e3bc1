"""A strict parser for signed queries, which anyone may have sent: each field must have its exact form."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import unquote_to_bytes

from attrs import field, frozen

from gatepay_async.protocol.callback_errors import MalformedCallbackError
from gatepay_async.words.problem import Problem

MAX_QUERY_BYTES = 8192  # many web servers accept no longer query; GatePay's have about 300 bytes

DIGITS = re.compile(r"0|[1-9][0-9]{0,18}"), Problem("form_id")
PRICE = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}"), Problem("form_money")  # 精确小数点后2位
TEXT = re.compile(r".+", re.DOTALL), Problem("empty")
SIGNATURE = re.compile(r"[0-9a-f]{32}"), Problem("form_signature")

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@frozen
class QueryForm:
    """
    The form of a query.

    Attributes:
        source: The kind of query, for errors, such as ``"callback"``.
        fields: For each field, the pattern that it must match, and the problem if it doesn't.
        optional: The fields that may be missing.
    """

    source: str
    fields: Mapping[str, tuple[re.Pattern[str], Problem]]
    optional: Collection[str]
    _decoded_names: Mapping[bytes, str] = field(init=False)  # the fields' names, by their encoded form

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_decoded_names", {name.encode(): name for name in self.fields})

    def read(self, query: str | bytes) -> dict[str, str]:
        """
        Parse *query* to names and values. Other fields, such as those of your own URL, are allowed, but no name twice.

        Raises:
            MalformedCallbackError: A field is missing, comes twice or has the wrong form.
        """
        if not isinstance(query, str | bytes):
            raise self._error(problem=Problem("query_not_text", kind=type(query).__name__))
        raw = query if isinstance(query, bytes) else query.encode("utf-8", "surrogatepass")
        if len(raw) > MAX_QUERY_BYTES:
            raise self._error(problem=Problem("too_long", most=MAX_QUERY_BYTES))
        values = self._split_fields(raw)
        for name, (form, problem) in self.fields.items():
            value_text = values.get(name)
            if value_text is None:
                if name not in self.optional:
                    raise self._error(field=name, problem=Problem("missing"))
            elif form.fullmatch(value_text) is None:
                raise self._error(field=name, problem=problem)
        return values

    def _split_fields(self, query: bytes) -> dict[str, str]:
        """Split *query* into decoded names and values. No name may come twice."""
        values: dict[str, str] = {}
        for pair in filter(None, query.removeprefix(b"?").split(b"&")):
            key, _, value = pair.partition(b"=")
            name = self._decoded_names.get(key) or self._unquote(key)
            if name in values:
                raise self._error(field=name if name in self.fields else None, problem=Problem("name_twice"))
            values[name] = value.decode() if value.isalnum() else self._unquote(value)
        return values

    def _unquote(self, text: bytes) -> str:
        """Decode form encoding, more strictly than Python's own functions. Unescaped UTF-8 is accepted."""
        text = text.replace(b"+", b" ")
        if b"%" in text:
            if _BAD_ESCAPE.search(text):
                raise self._error(problem=Problem("bad_escape"))
            text = unquote_to_bytes(text)
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            pass
        raise self._error(problem=Problem("bytes_not_utf8"))

    def _error(self, *, problem: Problem, field: str | None = None) -> MalformedCallbackError:
        return MalformedCallbackError(field=field, problem=problem, source=self.source)
