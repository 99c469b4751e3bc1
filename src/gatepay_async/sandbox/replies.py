"""Makes the HTTP response of a call, which contains the vendor's JSON envelope."""

import html
import json
from typing import cast

from attrs import frozen
from starlette.responses import Response

from gatepay_async.sandbox.endpoint import RawJson
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.refusals import SUCCESS, SUCCESS_TEXT

__all__ = ["Replies"]

# FastAdmin, which the vendor very likely runs, uses a code from 200 on as the HTTP status. HTTP's statuses end at 599.
_STATUS_CODES = range(200, 600)
_BODILESS = (204, 205)  # HTTP allows no body with these statuses
# Types that the JSON encoder encodes as they are. RawJson and nested values are not among them.
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
_as_json = json.JSONEncoder(ensure_ascii=False).encode


@frozen
class Replies:
    """Makes replies as the sandbox's options say."""

    options: Options

    def success(self, now: float, data: object) -> Response:
        """Return a successful reply with *data*."""
        return self._envelope(SUCCESS, SUCCESS_TEXT, now, data)

    def refusal(self, code: int, text: str, now: float) -> Response:
        """Return a refusal with *code* and its text."""
        return self._envelope(code, text, now, None)

    def _envelope(self, code: int, text: str, now: float, data: object) -> Response:
        """Return the response with the vendor's JSON envelope."""
        status = code if self.options.status_is_code and code in _STATUS_CODES else 200
        if status in _BODILESS:
            return Response(status_code=status)
        body = self._json({"code": code, "msg": text, "time": str(int(now)), "data": data})
        return Response(body, status_code=status, media_type="application/json")

    def _json(self, data: object) -> str:
        """Encode *data* as JSON. A ``RawJson`` in it is encoded already."""
        if isinstance(data, RawJson):
            return data
        if isinstance(data, dict):
            fields = cast("dict[str, object]", data)
            if not self.options.html_escaped and _PLAIN_TYPES.issuperset(map(type, fields.values())):
                return _as_json(fields)  # faster, for the 50 rows of a page
            return f"{{{', '.join(f'{_as_json(name)}: {self._json(value)}' for name, value in fields.items())}}}"
        if isinstance(data, list):
            return f"[{', '.join(map(self._json, cast('list[object]', data)))}]"
        if isinstance(data, str) and self.options.html_escaped:
            data = html.escape(data)
        return _as_json(data)
