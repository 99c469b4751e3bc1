"""What keeps strangers out of the console: names, other sites' forms, frames, scripts."""

from typing import Any

import httpx
import pytest
from tables import rows

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

PAGES = ["/", "/orders", "/callbacks", "/faults", "/pay/index?id=x", "/nowhere", "/static/sandbox.js"]


@pytest.fixture
def browser(call: Any) -> Any:
    """A client at the root of the sandbox's server."""
    call.client.base_url = str(call.client.base_url).removesuffix("api/")
    return call.client


@rows("path", PAGES)
def test_what_pages_may_do(path: str, browser: Any) -> None:
    """Every page forbids scripts and styles of its own, other servers, frames, guessing and keeping."""
    headers = browser.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "same-origin"


@rows("host", ["localhost:1", "127.0.0.1", "127.0.0.2:80", "[::1]:8000", "shop.localhost", "LOCALHOST"])
def test_names_of_this_machine(host: str, browser: Any) -> None:
    """Whatever this machine calls itself is answered, on any port: one may be forwarded."""
    assert browser.get("/", headers={"Host": host}).status_code == 200


@rows(
    "host",
    [
        "evil.test",
        "evil.test:80",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "10.0.0.1",
        "",
        "[::1",
        "a b",
        "@127.0.0.1@evil.test",
    ],
)
@rows("method", ["GET", "POST"])
def test_other_names(host: str, method: str, browser: Any, sandbox: Sandbox) -> None:
    """A name that somebody else points at this machine is refused, and no secret is in the refusal."""
    response = browser.request(method, "/", headers={"Host": host})
    assert response.status_code == 421
    assert sandbox.appsecret not in response.text


FORM = {"do": "add", "kind": "slow"}


@rows(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303),
        ({"Origin": "{origin}"}, 303),
        ({}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_forms_of_other_sites(headers: dict[str, str], status: int, browser: Any) -> None:
    """A form is taken from our own pages, and from what is no browser; never from another site's page."""
    origin = str(browser.base_url).rstrip("/")
    given = {name: value.replace("{origin}", origin) for name, value in headers.items()}
    browser.post("/faults", data={"do": "clear"})
    assert browser.post("/faults", data=FORM, headers=given).status_code == status
    assert ("slow" in browser.get("/faults").text.partition("<form")[0]) == (status == 303)


@rows("path", ["/shops", "/orders/1", "/faults", "/pay/index?id=x"])
def test_forms_that_are_none(path: str, browser: Any) -> None:
    """What is no form, or larger than any of ours, is refused with a sentence."""
    for body in (b"a=b&a=c", b"%zz=1", b"x"):
        response = browser.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert (response.status_code, response.text[:13]) == (400, "Bad Request: "), path
    assert browser.post(path, json={"do": "add"}).status_code == 400
    large = b"x=" + b"x" * 65_536
    response = browser.post(path, content=large, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert response.status_code in (303, 404)  # as an empty one


@rows("path", ["/", "/orders", "/callbacks", "/faults", "/pay/index", "/static/sandbox.css"])
def test_other_methods(path: str, browser: Any) -> None:
    """Another method than GET, HEAD or POST is answered 405, and HEAD says what GET would."""
    assert browser.put(path).status_code == 405
    assert browser.head("/orders").status_code == 200


def test_static_files(browser: Any) -> None:
    """The script, the sheet and the icon say what they are; another name is not found, nor is a way out."""
    types = {"sandbox.js": "text/javascript", "sandbox.css": "text/css", "icon.svg": "image/svg+xml"}
    for name, media_type in types.items():
        assert browser.get(f"/static/{name}").headers["content-type"].partition(";")[0] == media_type
    for name in ("nothing.js", "..%2Fguard.py", "%2e%2e/guard.py"):
        assert browser.get(f"/static/{name}").status_code == 404


@pytest.mark.anyio
async def test_in_one_process(sandbox: Sandbox) -> None:
    """Without a socket the host is what the caller calls it, and another one in the header is refused."""
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://gatepay.example/") as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/", headers={"Host": "evil.test"})).status_code == 421
