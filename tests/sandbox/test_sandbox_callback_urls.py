"""Which callback URLs the sandbox accepts: only loopback ones unless allowed otherwise."""

import pytest
from tables import rows

from gatepay_async.sandbox import CallbackUrlError, Sandbox
from gatepay_async.sandbox.callback_urls import check, target_of

pytestmark = pytest.mark.sockets


@rows(
    ("url", "hosts", "port"),
    [
        ("http://127.0.0.1", ("127.0.0.1",), 80),
        ("https://127.9.9.9/callback", ("127.9.9.9",), 443),
        ("http://[::1]:8000/", ("::1",), 8000),
        ("http://localhost:8000/cb?shop=1&x", ("127.0.0.1", "::1"), 8000),
        ("HTTP://LOCALHOST/", ("127.0.0.1", "::1"), 80),
        ("http://shop.localhost/%E5%9B%9E", ("127.0.0.1", "::1"), 80),
    ],
)
def test_loopback_urls_are_accepted(url: str, hosts: tuple[str, ...], port: int) -> None:
    """Loopback addresses and names under localhost are accepted. Names are never looked up in DNS."""
    check(url, beyond_loopback=False)
    target = target_of(url, beyond_loopback=False)
    assert (target.hosts, target.port, target.tls) == (hosts, port, url.startswith("https"))


@rows(
    "url",
    [
        "http://example.com/callback",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
    ],
)
def test_other_hosts_are_rejected_unless_allowed(url: str) -> None:
    """A URL that may lead to another host is rejected unless `callbacks_beyond_loopback` is set."""
    with pytest.raises(
        CallbackUrlError, match=r"must point to this machine .*callbacks_beyond_loopback=True"
    ) as caught:
        check(url, beyond_loopback=False)
    assert caught.value.problem.name == "url_not_local"
    check(url, beyond_loopback=True)
    assert len(target_of(url, beyond_loopback=True).hosts) == 1


@rows(
    "url",
    [
        "",
        "/callback",
        "//127.0.0.1/",
        "localhost:8000/callback",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://:80/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http://[::1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/#fragment",
        "http://127.0.0.1/回调",
        "http://127.0.0.1/" + "x" * 2000,
    ],
)
def test_malformed_urls_are_rejected(url: str) -> None:
    """Anything but an absolute HTTP URL in ASCII is rejected, with and without `callbacks_beyond_loopback`."""
    for beyond in (False, True):
        with pytest.raises(CallbackUrlError, match="a full http:// or https:// URL") as caught:
            check(url, beyond_loopback=beyond)
        assert caught.value.problem.name == "url_form"


@rows("url", ["http://me@127.0.0.1/", "http://me:secret@127.0.0.1/", "http://@127.0.0.1/"])
def test_credentials_in_urls_are_rejected(url: str) -> None:
    """A URL with a user name or password is rejected, because the sandbox wouldn't send them."""
    with pytest.raises(CallbackUrlError, match="a user name or password") as caught:
        check(url, beyond_loopback=False)
    assert "secret" not in str(caught.value)


@rows("name", ["sign", "price", "out_order_id"])
def test_parameters_of_the_callback_are_rejected(name: str) -> None:
    """A URL with a parameter of the callback is rejected: receivers must refuse duplicate parameters."""
    with pytest.raises(CallbackUrlError, match="a parameter with the same name"):
        check(f"http://127.0.0.1/?a=b&{name}=1", beyond_loopback=False)


def callback_url_of(sandbox: Sandbox) -> str | None:
    state = sandbox.shop()
    assert state is not None
    return state.callback_url


def test_rejected_url_changes_nothing() -> None:
    """A rejected URL leaves the shop unchanged, None removes its URL, and other changes keep it."""
    with Sandbox(callback_url="http://127.0.0.1/a") as sandbox:
        with pytest.raises(CallbackUrlError):
            sandbox.change_shop(callback_url="http://example.com", closed=True)
        state = sandbox.change_shop(closed=False)
        assert (state.callback_url, state.closed) == ("http://127.0.0.1/a", False)
        assert sandbox.change_shop(callback_url=None).callback_url is None
        sandbox.change_shop(sandbox.shops[1].appkey, callback_url="http://localhost/b")
        assert callback_url_of(sandbox) is None


def test_other_hosts_are_accepted_if_allowed() -> None:
    """With callbacks_beyond_loopback=True, a shop may have a URL on another host."""
    with Sandbox(callback_url="https://shop.example/callback", callbacks_beyond_loopback=True) as sandbox:
        assert callback_url_of(sandbox) == "https://shop.example/callback"
