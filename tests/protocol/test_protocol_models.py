"""What replies become: pictures, catalogs, and what they show of themselves."""

import base64
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from tables import rows

from gatepay_async.protocol.bulk import Chunk, Fate, Ledger, failed
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.models import CardKey, CardKeyPage, Catalog, Category, PayType, Product, QrCode
from gatepay_async.protocol.signing import Credentials

pytestmark = pytest.mark.fast

THEN = datetime(2019, 4, 26, tzinfo=UTC)
KEY = CardKey(1, 6, 8, 0, "CANARY-KEY", THEN, THEN, "soldin")


@rows(
    ("data", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"BM....", "image/bmp"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", "image/declared"),
        (b"\x89PNG", "image/declared"),
        (b"<svg", "image/declared"),
        (b"", "image/declared"),
    ],
)
def test_media_types(data: bytes, media_type: str) -> None:
    """A picture's type is told by its bytes; where they tell nothing, by what was declared."""
    picture = QrCode(data, "image/declared")
    assert picture.media_type == media_type
    assert picture.data_uri == f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def test_saving(tmp_path: Path) -> None:
    """A picture is written as it is, over what was there; the path comes back."""
    target = tmp_path / "qr.png"
    target.write_bytes(b"a longer file that was there before")
    assert QrCode(b"\x89PNG").save(str(target)) == target
    assert target.read_bytes() == b"\x89PNG"
    with pytest.raises(OSError, match=r"nowhere"):
        QrCode(b"").save(tmp_path / "nowhere" / "qr.png")


def product(number: int) -> Product:
    return Product(number, 6, 39, "name", "description", "https://image", Decimal("1.00"), 4)


def test_a_catalog() -> None:
    """Products are found by number across categories, in order; one that isn't there is a KeyError."""
    catalog = Catalog(
        (Category(1, "a", (product(5), product(4))), Category(2, "b", ()), Category(3, "c", (product(9),)))
    )
    assert [each.id for each in catalog.products] == [5, 4, 9]
    assert catalog.product(9) is catalog.products[2]
    with pytest.raises(KeyError, match=r"^7$"):
        catalog.product(7)


def test_pay_types_are_text() -> None:
    """A PayType is the vendor's text."""
    assert [str(each) for each in PayType] == ["wechat", "alipay", "onecode"]


def test_reprs_hold_no_secret() -> None:
    """A repr shows how many card keys, and how many bytes, but none of them, and no appsecret."""
    chunk = Chunk(0, (1, 2), ("CANARY-A", "CANARY-B"))
    outcome = failed(chunk, Fate.UNKNOWN)
    ledger = Ledger()
    ledger.add(outcome)
    report = ledger.report(stopped=None)
    shown = {
        repr(each): each
        for each in (
            Credentials("K", "CANARY-SECRET"),
            KaCreate(8, ["CANARY-A", "CANARY-B"]),
            KEY,
            CardKeyPage(1, 50, 1, 1, (KEY,)),
            chunk,
            outcome,
            report,
            ledger.progress(),
            QrCode(b"CANARY-BYTES"),
        )
    }
    assert not [text for text in shown if "CANARY" in text]
    assert repr(Credentials("K", "CANARY-SECRET")) == "Credentials(appkey='K')"
    assert repr(KaCreate(8, ["CANARY-A", "CANARY-B"])) == "KaCreate(product_id=8, keys=<2>)"
    assert repr(chunk) == "Chunk(index=0)"
    assert repr(QrCode(b"CANARY-BYTES")) == "QrCode(data=<12>)"
    assert "chunks=<1>" in repr(report)
    assert "CANARY" not in str(KEY) + str(report)
