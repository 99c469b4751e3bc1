"""Network settings: loopback hosts, proxies and NO_PROXY, trusted certificates, and valid URLs."""

import os
import shutil
import ssl
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.exchange import proxies, trust
from gatepay_async.exchange.loopback import is_loopback
from gatepay_async.exchange.network import network_settings_for
from gatepay_async.exchange.opening import exchange_over
from gatepay_async.exchange.over_pool import MAX_PREPARED, OverPool
from gatepay_async.exchange.proxies import Bypass, Proxy, is_excluded, proxy_for
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.pool import OriginPool

pytestmark = pytest.mark.fast

LOOPBACK_HOSTS = (
    "localhost", "LOCALHOST", "localhost.", "shop.localhost", "127.0.0.1", "127.8.9.1", "127.1", "2130706433", "::1",
    "[::1]", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1", "0.0.0.0", "::",  # noqa: S104 -- nothing listens there
)  # fmt: skip
OTHER_HOSTS = (
    "gatepay.io", "localhost.gatepay.io", "notlocalhost", "10.0.0.1", "128.0.0.1", "::2", "::ffff:10.0.0.1", "127",
    "fe80::1", "127.0.0.1.nip.io", "xn--r8jz45g.jp", "face", "",
)  # fmt: skip


def test_loopback_hosts_are_recognized() -> None:
    assert [host for host in LOOPBACK_HOSTS if not is_loopback(host)] == []
    assert [host for host in OTHER_HOSTS if is_loopback(host)] == []


def test_no_proxy_entries_may_have_any_common_form() -> None:
    """NO_PROXY accepts the forms of curl, Go, Docker and httpx."""
    rows = [
        ("https://gatepay.io/", "gatepay.io", True),
        ("https://gatepay.io/", ".gatepay.io", True),
        ("https://gatepay.io/", "*.gatepay.io", True),
        ("https://api.gatepay.io/", "gatepay.io", True),
        ("https://api.gatepay.io/", "a.example, gatepay.io", True),
        ("https://api.gatepay.io/", "a.example gatepay.io", True),
        ("https://GATEPAY.io./", "gatepay.IO.", True),
        ("https://notgatepay.io/", "gatepay.io", False),
        ("https://gatepay.io/", "api.gatepay.io", False),
        ("https://gatepay.io/", "*", True),
        ("https://gatepay.io/", "a.example,*", True),
        ("https://gatepay.io/", "", False),
        ("https://gatepay.io/", ".", False),
        ("https://gatepay.io/", "gatepay.io:443", True),
        ("https://gatepay.io/", "gatepay.io:8443", False),
        ("https://gatepay.io:8443/", "gatepay.io:8443", True),
        ("http://gatepay.io/", "gatepay.io:80", True),
        ("https://gatepay.io/", "https://gatepay.io/", True),
        ("https://例え.jp/", "例え.jp", True),
        ("https://例え.jp/", "xn--r8jz45g.jp", True),
        ("https://gatepay.io/", "xn--", False),
        ("https://gatepay.io/", "gate\u200bpay.io", False),
        ("https://10.1.2.3/", "10.1.2.3", True),
        ("https://10.1.2.3/", "10.0.0.0/8", True),
        ("https://10.1.2.3/", "10.0.0.1/8", True),
        ("https://11.1.2.3/", "10.0.0.0/8", False),
        ("https://10.1.2.3/", "10.1.2.3:443", True),
        ("https://10.1.2.3/", "2.3", False),
        ("https://[fd00::7]/", "fd00::7", True),
        ("https://[fd00::7]/", "[fd00::7]", True),
        ("https://[fd00::7]/", "[fd00::7]:443", True),
        ("https://[fd00::7]/", "[fd00::7]:80", False),
        ("https://[fd00::7]/", "fd00::/8", True),
        ("https://[fd00::7]/", "[fd00::]/8", True),
        ("https://[fd00::7]/", "::1/128,10.0.0.0/8", False),
        ("https://[::ffff:10.1.2.3]/", "10.0.0.0/8", True),
    ]
    wrong = [(url, entry) for url, entry, listed in rows if is_excluded(httpx.URL(url), entry) != listed]
    assert wrong == []


def test_proxy_variables_have_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheme's variable comes before ALL_PROXY, and lower case before upper case. Loopback hosts use no proxy."""
    shop = httpx.URL("https://gatepay.io/api/")
    assert proxy_for(shop) == Bypass(host_excluded=False)
    monkeypatch.setenv("ALL_PROXY", " me:secret@all.example:1 ")
    proxy = proxy_for(shop)
    assert isinstance(proxy, Proxy)
    assert (proxy.address, proxy.variable) == ("all.example:1", "ALL_PROXY")
    assert "secret" not in repr(proxy)
    monkeypatch.setenv("HTTPS_PROXY", "http://upper.example")
    monkeypatch.setenv("https_proxy", "https://[fd00::7]:3128")
    proxy = proxy_for(shop)
    assert isinstance(proxy, Proxy)
    assert (proxy.address, proxy.variable) == ("[fd00::7]:3128", "https_proxy")
    assert proxy_for(httpx.URL("https://127.0.0.1/")) == Bypass(host_excluded=True)
    monkeypatch.setenv("no_proxy", "gatepay.io")
    assert proxy_for(shop) == Bypass(host_excluded=True)


def test_system_proxy_is_used_except_for_excluded_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy and the excluded hosts come from the system's settings. An invalid proxy raises an error."""
    monkeypatch.setattr(proxies, "getproxies", lambda: {"https": "http://system.example:8080"})
    monkeypatch.setattr(proxies, "proxy_bypass", lambda host: host == "gatepay.io")
    assert proxy_for(httpx.URL("https://gatepay.io/")) == Bypass(host_excluded=True)
    proxy = proxy_for(httpx.URL("https://other.example/"))
    assert isinstance(proxy, Proxy)
    assert (proxy.address, proxy.variable) == ("system.example:8080", "")
    monkeypatch.setattr(proxies, "getproxies", lambda: {"https": "http://system.example:0"})
    with pytest.raises(InvalidRequestError) as caught:
        proxy_for(httpx.URL("https://other.example/"))
    assert caught.value.field == "HTTPS_PROXY"


def test_socks_proxy_needs_socksio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without socksio, a SOCKS proxy raises an error that says how to install it."""
    monkeypatch.setenv("all_proxy", "socks5h://proxy.example:1080")
    monkeypatch.setattr(proxies, "find_spec", lambda _: None)
    with pytest.raises(InvalidRequestError, match=r"all_proxy: .*pip install 'httpx\[socks\]'"):
        proxy_for(httpx.URL("https://gatepay.io/"))
    monkeypatch.setattr(proxies, "find_spec", lambda name: name)
    assert isinstance(proxy_for(httpx.URL("https://gatepay.io/")), Proxy)


def test_https_proxy_must_have_a_trusted_certificate(monkeypatch: pytest.MonkeyPatch, authority_file: str) -> None:
    """For a proxy over TLS the same certificates are trusted as for the shop, even if the shop is not over TLS."""
    monkeypatch.setenv("SSL_CERT_FILE", authority_file)
    monkeypatch.setenv("http_proxy", "https://proxy.example")
    network = network_settings_for(httpx.URL("http://gatepay.example/"))
    proxy = network.httpx_proxy()
    assert proxy is not None
    assert proxy.ssl_context is network.tls
    assert network.tls.cert_store_stats()["x509"] == 1


def test_trust_env_false_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``trust_env=False``, proxies and certificates from the environment are ignored."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:99999")
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    network = network_settings_for(httpx.URL("https://gatepay.io/"), trust_env=False)
    assert network.proxy is None
    assert network.httpx_proxy() is None
    assert trust.count_certificates(network.tls) > 10


@pytest.mark.anyio
async def test_client_with_trust_env_false_ignores_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with ``trust_env=False`` ignores an invalid proxy variable. Another client raises an error."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:99999")
    async with AsyncGatePay("a", "b", trust_env=False) as gatepay:
        assert isinstance(gatepay._caller._attempts._exchange, OverPool)
    with pytest.raises(InvalidRequestError, match="https_proxy: names a proxy, which has an invalid port"):
        await AsyncGatePay("a", "b").__aenter__()


def test_prepared_requests_are_limited() -> None:
    """The cache of prepared requests has a maximum size, since ``send_raw()`` accepts any path."""
    exchange = OverPool(OriginPool("https://gatepay.io"), owns_transport=True)
    for number in range(3 * MAX_PREPARED):
        exchange._prepare(f"https://gatepay.io/api/{number}")
        assert 0 < len(exchange._prepared) <= MAX_PREPARED


def test_certificates_in_ssl_cert_dir_are_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: trustme.CA, authority_file: str
) -> None:
    """SSL_CERT_DIR names one or more folders, in which OpenSSL finds a certificate by its hash as the file name."""
    empty, with_certificate = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    with_certificate.mkdir()
    shutil.copy(authority_file, with_certificate / "authority.pem")
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(map(str, (empty, with_certificate))))
    with pytest.raises(InvalidRequestError, match="openssl rehash") as caught:
        trust.trusted()
    assert caught.value.field == "SSL_CERT_DIR"
    trust._context.cache_clear()
    shutil.copy(authority_file, with_certificate / "0a1b2c3d.0")
    assert trust.count_certificates(trust.trusted()) == 1
    assert trust.trusted() is trust.trusted()
    # A lambda can't contain `raise`, so the error is thrown into a generator.
    monkeypatch.setattr(Path, "iterdir", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    trust._context.cache_clear()
    with pytest.raises(InvalidRequestError, match="can't be read: Permission denied"):
        trust.trusted()
    trust._context.cache_clear()


def test_file_without_certificates_is_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file without a certificate, such as a revocation list, is rejected."""
    file = tmp_path / "some.pem"
    file.write_text("-----BEGIN X509 CRL-----\n", "ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(InvalidRequestError, match="holds no certificate that can be read"):
        trust.trusted()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    with pytest.raises(InvalidRequestError, match="holds no certificate that can be read"):
        trust.trusted()


def test_invalid_urls_are_rejected() -> None:
    """An invalid URL is rejected, and the error doesn't quote it."""
    invalid = (
        "", "gatepay.io", "https://", "https:///x", "ftp://x", "https://me:PASSWORD@x:99999/", "https://x:-1/",
        "https://[::1", "https://xn--/", "https://a..b/", f"https://{'a.' * 130}io/", "https://a\u200b.io/",
        "https://a b/",
    )  # fmt: skip
    for url in invalid:
        with pytest.raises(BadUrlError) as caught:
            parse_url(url)
        assert "PASSWORD" not in str(caught.value)
    for url in ("https://gatepay.io", "http://[fd00::7]:1/", "https://例え.jp/", "https://gatepay.io./", "http://a_b/"):
        assert parse_url(url).host


def test_invisible_characters_around_a_base_url_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with an invisible character in its middle, or with no visible one, raises an error that names it."""
    assert "at https://shop.example/api/>" in repr(AsyncGatePay("a", "b", base_url="\ufeffhttps://shop.example/api\n"))
    for variable, value in {
        "GATEPAY_BASE_URL": "https://shop\u200b.example/", "GATEPAY_APPKEY": "my\u200bkey", "GATEPAY_APPSECRET": "\n",
    }.items():  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv("GATEPAY_APPKEY", "a")
            patch.setenv("GATEPAY_APPSECRET", "b")
            patch.setenv(variable, value)
            with pytest.raises(InvalidRequestError) as caught:
                AsyncGatePay()
        assert caught.value.field == variable


def test_pool_is_not_imported_for_a_users_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user's transport, our pool isn't imported: its import takes as long as that of everything else."""
    monkeypatch.delitem(sys.modules, "gatepay_async.pool")
    exchange_over(httpx.MockTransport(lambda _: httpx.Response(200)), owns_transport=False)
    assert "gatepay_async.pool" not in sys.modules
