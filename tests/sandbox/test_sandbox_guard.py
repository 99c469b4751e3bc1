"""What protects the console: checks of the host name and of a form's origin, and security headers."""

from typing import Any

import httpx
import pytest
from tables import rows

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

PAGES = ["/", "/orders", "/callbacks", "/faults", "/pay/index?id=x", "/nowhere", "/static/sandbox.js"]


@pytest.fixture
def browser(api: Any) -> Any:
    """An httpx client whose base URL is the root of the sandbox's server."""
    api.client.base_url = str(api.client.base_url).removesuffix("api/")
    return api.client


@rows("path", PAGES)
def test_every_page_has_security_headers(path: str, browser: Any) -> None:
    """Every page forbids inline scripts and styles, other servers, framing, MIME sniffing and caching."""
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
def test_loopback_host_names_are_accepted(host: str, browser: Any) -> None:
    """Any loopback name is accepted in the Host header, with any port, because a port may be forwarded."""
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
def test_other_host_names_are_rejected(host: str, method: str, browser: Any, sandbox: Sandbox) -> None:
    """A Host header with another name, as in DNS rebinding, gets a 421 without secrets."""
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
def test_forms_of_other_sites_are_rejected(headers: dict[str, str], status: int, browser: Any) -> None:
    """A form is accepted from the sandbox's pages and from programs, but not from other sites."""
    origin = str(browser.base_url).rstrip("/")
    sent_headers = {name: value.replace("{origin}", origin) for name, value in headers.items()}
    browser.post("/faults", data={"do": "clear"})
    assert browser.post("/faults", data=FORM, headers=sent_headers).status_code == status
    # The list of faults comes before the first form. The form itself also contains the word, as an option.
    assert ("slow" in browser.get("/faults").text.partition("<form")[0]) == (status == 303)


@rows("path", ["/shops", "/orders/1", "/faults", "/pay/index?id=x"])
def test_malformed_forms_are_rejected(path: str, browser: Any) -> None:
    """A malformed form gets a 400. A form that is too large is read as an empty one."""
    for body in (b"a=b&a=c", b"%zz=1", b"x"):
        response = browser.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert (response.status_code, response.text[:13]) == (400, "Bad Request: "), path
    assert browser.post(path, json={"do": "add"}).status_code == 400
    large = b"x=" + b"x" * 65_536
    response = browser.post(path, content=large, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert response.status_code in (303, 404)  # the statuses for an empty form


@rows("path", ["/", "/orders", "/callbacks", "/faults", "/pay/index", "/static/sandbox.css"])
def test_put_gets_405_and_head_gets_the_status_of_get(path: str, browser: Any) -> None:
    """PUT gets a 405 on every page, and HEAD the same status as GET."""
    assert browser.put(path).status_code == 405
    assert browser.head(path).status_code == browser.get(path).status_code


def test_static_files_have_their_types(browser: Any) -> None:
    """Static files have their media types. An unknown name and a path outside the directory get a 404."""
    types = {"sandbox.js": "text/javascript", "sandbox.css": "text/css", "icon.svg": "image/svg+xml"}
    for name, media_type in types.items():
        assert browser.get(f"/static/{name}").headers["content-type"].partition(";")[0] == media_type
    for name in ("nothing.js", "..%2Fguard.py", "%2e%2e/guard.py"):
        assert browser.get(f"/static/{name}").status_code == 404


@pytest.mark.anyio
async def test_host_is_checked_without_a_socket(sandbox: Sandbox) -> None:
    """Over ASGI, without a socket, the Host header must match the host of the requested URL."""
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://gatepay.example/") as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/", headers={"Host": "evil.test"})).status_code == 421
