"""Replies that are not GatePay's: what their errors say, and that no error contains a secret."""

import json
import pickle
import re
import traceback
from typing import Any

import pytest
from tables import rows

from gatepay_async.protocol import errors
from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate, ProductShow
from gatepay_async.protocol.errors import GatePayError, InvalidRequestError, ProtocolError, RefusedError
from gatepay_async.protocol.messages import Reply, decode, encode
from gatepay_async.protocol.signing import Credentials

pytestmark = pytest.mark.fast

SHOP = Credentials("gp-key", "CANARY-SECRET")
PAY = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="wechat", product_num=1, custom="terry")
CALLS: list[Any] = [PAY, ProductShow(), KaShow(8), KaCreate(8, ["CANARY-1", "CANARY-2"])]
each_call = rows("call", CALLS)
GATEWAY_PAGE = b"<html>\r\n<head><title>502 Bad\n Gateway</title></head><body><h1>nginx</h1></body></html>"
OK = b'{"code": 100, "msg": "", "time": "1", "data": "x"}'


def decode_error(call: Any, status: int, body: bytes, retry_after: float | None = None) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode(call, Reply(status, body, retry_after))
    assert (caught.value.endpoint, caught.value.http_status) == (call.path, status)
    return caught.value


@each_call
def test_error_for_an_html_page_shows_length_and_title(call: Any) -> None:
    """The error doesn't quote the rest of the page."""
    error = decode_error(call, 502, GATEWAY_PAGE)
    assert (error.problem, error.path) == ("is not complete JSON", None)
    assert error.excerpt == '86 bytes, titled "502 Bad Gateway"'
    assert str(error) == f"{call.path} (HTTP 502): is not complete JSON: {error.excerpt}"


def test_error_of_a_call_with_card_keys_shows_only_words_of_a_fixed_list() -> None:
    """If a call carries card keys, its error shows only those words of titles and field names that a list permits."""
    for body in (b"<title>opensesame</title>", b'{"opensesame": 1}'):
        assert "opensesame" in decode_error(PAY, 502, body).excerpt
        for call in (KaShow(8), KaCreate(8, ["CANARY-1"])):
            assert "opensesame" not in decode_error(call, 502, body).excerpt


@rows("status", [300, 301, 302, 307, 308, 399])
@each_call
@rows("body", [b"", GATEWAY_PAGE, OK])
def test_redirect_raises_an_error_that_says_it_is_not_followed(call: Any, status: int, body: bytes) -> None:
    """The body of the redirect doesn't matter."""
    error = decode_error(call, status, body)
    assert (error.problem, error.path) == ("is a redirect, which is not followed; check base_url", None)


@each_call
@rows("status", [400, 404, 500, 503])
def test_success_code_with_an_error_status_is_not_a_success(call: Any, status: int) -> None:
    """Code 100 with an HTTP error status raises ``ProtocolError``."""
    error = decode_error(call, status, OK)
    assert (error.path, error.problem) == ("code", "says success")


def test_error_has_the_seconds_of_retry_after() -> None:
    """The error has the seconds of Retry-After, and its text mentions them."""
    error = decode_error(KaShow(8), 429, b"slow down", 7.5)
    assert error.retry_after == 7.5
    assert str(error) == "ka/show (HTTP 429): is not complete JSON; the server asks to retry after 7.5 s: 9 bytes"
    assert decode_error(ProductShow(), 429, b"slow down", None).retry_after is None


# -- no error contains a secret -------------------------------------------------------------------------------------


def chain(error: BaseException | None) -> list[BaseException]:
    """Return *error* with all its causes and contexts."""
    errors_so_far: list[BaseException] = []
    remaining = [error]
    while remaining:
        current = remaining.pop()
        if current is not None and not any(current is known for known in errors_so_far):
            errors_so_far.append(current)
            remaining += [current.__cause__, current.__context__]
    return errors_so_far


def everything_in(error: GatePayError) -> str:
    """Return all text in *error* and its chain: messages, reprs, attributes, notes, tracebacks."""
    parts = ["".join(traceback.format_exception(error, chain=True))]
    for link in chain(error):
        parts += [str(link), repr(link), repr(link.args), repr(link.__dict__), repr(getattr(link, "__notes__", ""))]
        parts += [repr(getattr(link, name, "")) for name in ("object", "doc", "input", "value")]
        if isinstance(link, GatePayError):
            parts.append(pickle.dumps(link, 0).decode("latin-1"))
    return "".join(line for part in parts for line in part.splitlines(keepends=True) if not SOURCE_LINE.match(line))


# In a traceback: lines of source code, and their file names. They contain the secrets of this file.
SOURCE_LINE = re.compile(r'^    (?!Error|gatepay)|^  File "')


def decode_failure(call: Any, body: bytes, status: int = 200) -> GatePayError:
    with pytest.raises((ProtocolError, RefusedError)) as caught:
        decode(call, Reply(status, body))
    assert chain(caught.value) == [caught.value]
    return caught.value


# How a server may repeat a value from the request.
ECHOES = ["{}", "bad: {}!", "<title>{}</title>", "<html><head><title>500: {}</title></head>", "<pre>{}", "\n{}\n{}"]
KEYS = ["CANARY-1", "CANARY 2  two spaces", "CANARY&3<b>", "CANARY", "CANARY-1-LONGER", "卡密CANARY", "CANARY\\4\"'"]
# Parts of KEYS, including those that would be left if only a shorter key was masked.
PARTS_OF_KEYS = re.compile(r"CANARY|LONGER|two|spaces|3<b>|卡密|4\W?\"'")


@rows("echo", ECHOES)
@rows("key", KEYS)
@rows("status", [200, 500])
def test_card_key_repeated_by_the_server_is_in_no_error(echo: str, key: str, status: int) -> None:
    """If the server repeats a card key in a refusal or a page, unchanged or HTML-escaped, no error contains it."""
    call = KaCreate(8, KEYS)
    escaped = key.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    for shown in (key, escaped):
        text = echo.format(shown, shown)
        assert not PARTS_OF_KEYS.findall(everything_in(decode_failure(call, text.encode(), status)))
    refusal = decode_failure(call, json.dumps({"code": 109, "msg": echo.format(key, key)}).encode(), status)
    assert type(refusal) is errors.DuplicateKeysError
    assert not PARTS_OF_KEYS.findall(everything_in(refusal))
    assert "***" in str(refusal)


@each_call
@rows("echo", ECHOES)
@rows("change", [str, str.upper])
def test_signature_repeated_by_the_server_is_in_no_error(call: Any, echo: str, change: Any) -> None:
    """If the server repeats a signature in a refusal or a page, no error contains it."""
    body = encode(call, SHOP).decode()
    signature = change(body[-32:])
    refused = json.dumps({"code": 101, "msg": echo.format(signature, signature)}).encode()
    for reply in (echo.format(signature, signature).encode(), echo.format(body, body).encode(), refused):
        text = everything_in(decode_failure(call, reply, 500))
        assert signature not in text
        assert not re.search(r"[0-9a-fA-F]{32}", text)
        assert "CANARY" not in text


def row(**changes: Any) -> dict[str, Any]:
    example = {"id": 1, "admin_id": 6, "pay_product_id": 8, "pay_order_id": 0, "content": "CANARY-KEY"}
    return {**example, "createtime": 1, "updatetime": 1, "status": "soldin", **changes}


def page(*rows: Any) -> bytes:
    ka = {"total": 1, "per_page": 50, "current_page": 1, "last_page": 1, "data": list(rows)}
    return json.dumps({"code": 100, "msg": "", "time": "1", "data": {"ka": ka}}).encode()


@rows(
    "body",
    [
        page(row(), row(content=["CANARY-KEY"])),
        page(row(content={"CANARY-KEY": "CANARY-KEY"})),
        page(row(content=None), row()),
        page(row(id="CANARY-KEY")),
        page(row(createtime="CANARY-KEY")),
        page("CANARY-KEY"),
        page(["CANARY-KEY"]),
        page(row())[:-3],
        page(row())[:-40] + b"\xff" + page(row())[-40:],
        page(row()).replace(b"CANARY-KEY", b"CANARY-KEY\\ud800"),
        b"<br />\n<b>Notice</b>: CANARY-KEY in ka.php\n" + page(row()),
        b"<title>Notice: CANARY-KEY</title>" + page(row()),
        json.dumps({"code": 100, "data": {"ka": "CANARY-KEY"}}).encode(),
        json.dumps({"code": 100, "data": "CANARY-KEY"}).encode(),
        json.dumps({"code": "CANARY-KEY"}).encode(),
        json.dumps("CANARY-KEY").encode(),
        json.dumps({"code": 107, "msg": "CANARY-KEY", "data": "CANARY-KEY"}).encode(),
    ],
)
@rows("status", [200, 302, 500])
def test_error_for_a_broken_page_contains_no_card_key(body: bytes, status: int) -> None:
    """Neither the error, its chain nor its traceback contains a card key of the page."""
    error = decode_failure(KaShow(8), body, status)
    assert "CANARY" not in everything_in(error)


@rows("key", ["CANARY\n1", "CANARY\r", "CANARY\ud800", "\udfffCANARY", b"CANARY", ["CANARY"], 7, ""])
def test_error_for_an_invalid_card_key_names_only_its_line(key: Any) -> None:
    """The error for an invalid or duplicate card key names the line, and doesn't contain the card key."""
    for keys in (["A", key], [key], ["CANARY-A", "CANARY-A"], "CANARY", ["CANARY"] * 501):
        with pytest.raises(InvalidRequestError) as caught:
            KaCreate(8, keys)
        assert chain(caught.value) == [caught.value]
        assert "CANARY" not in everything_in(caught.value)


@rows("secret", ["CANARY\nSECRET", "CANARY\u200bSECRET", "CANARY\ud800", b"CANARY", ["CANARY"]])
def test_error_for_an_invalid_appsecret_does_not_contain_it(secret: Any) -> None:
    """Neither the error, its chain nor its traceback contains the appsecret."""
    with pytest.raises(InvalidRequestError) as caught:
        Credentials("K", secret)
    assert "CANARY" not in everything_in(caught.value)


def test_everything_in_finds_secrets() -> None:
    """``everything_in`` finds a secret in the text of an error, its attributes, its notes and its chain."""
    error = ProtocolError(endpoint="x", http_status=200, problem="CANARY")
    assert "CANARY" in everything_in(error)
    without_secret = errors.TransportError(endpoint="x", sent=True, problem="y")
    assert "CANARY" not in everything_in(without_secret)
    without_secret.__context__ = ValueError("CANARY")
    assert "CANARY" in everything_in(without_secret)
    without_secret.__context__ = None
    without_secret.add_note("CANARY")
    assert "CANARY" in everything_in(without_secret)


def test_code_of_more_than_five_digits_is_not_shown() -> None:
    """A longer code could be a card key. A code of five digits is shown."""
    call = KaCreate(8, ["AAA"])
    for code in (123456, -123456, 1234_5678_9012_3456):
        with pytest.raises(ProtocolError, match="code is not a code of GatePay's") as caught:
            decode(call, Reply(200, b'{"code": %d, "msg": "", "data": null}' % code))
        assert str(abs(code)) not in f"{caught.value} {vars(caught.value)}"
    with pytest.raises(RefusedError, match="99999"):
        decode(call, Reply(200, b'{"code": 99999, "msg": "", "data": null}'))
