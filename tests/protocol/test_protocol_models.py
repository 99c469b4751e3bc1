"""The models that replies are decoded to: QR codes, catalogs, pay types, and their reprs."""

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

CREATED = datetime(2019, 4, 26, tzinfo=UTC)
KEY = CardKey(
    id=1,
    admin_id=6,
    pay_product_id=8,
    pay_order_id=0,
    content="CANARY-KEY",
    created_at=CREATED,
    updated_at=CREATED,
    status="soldin",
)


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
def test_media_type_of_a_qr_code_comes_from_its_first_bytes(data: bytes, media_type: str) -> None:
    """If the first bytes are unknown, the declared type is used."""
    picture = QrCode(data, "image/declared")
    assert picture.media_type == media_type
    assert picture.data_uri == f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def test_saving_a_qr_code_replaces_an_existing_file(tmp_path: Path) -> None:
    """``save`` writes the bytes unchanged, replaces an existing file, and returns the path."""
    target = tmp_path / "qr.png"
    target.write_bytes(b"a longer file that was there before")
    assert QrCode(b"\x89PNG").save(str(target)) == target
    assert target.read_bytes() == b"\x89PNG"
    with pytest.raises(OSError, match=r"nowhere"):
        QrCode(b"").save(tmp_path / "nowhere" / "qr.png")


def make_product(product_id: int) -> Product:
    return Product(
        id=product_id,
        admin_id=6,
        category_id=39,
        name="name",
        description="description",
        image="https://image",
        price=Decimal("1.00"),
        stock=4,
    )


def test_catalog_finds_a_product_by_its_id() -> None:
    """``products`` lists all categories in order. ``product()`` finds one by its ID, or raises a KeyError."""
    catalog = Catalog(
        (
            Category(1, "a", (make_product(5), make_product(4))),
            Category(2, "b", ()),
            Category(3, "c", (make_product(9),)),
        )
    )
    assert [product.id for product in catalog.products] == [5, 4, 9]
    assert catalog.product(9) is catalog.products[2]
    with pytest.raises(KeyError, match=r"^7$"):
        catalog.product(7)


def test_pay_types_are_text() -> None:
    """``str()`` of a ``PayType`` is GatePay's name for it."""
    assert [str(pay_type) for pay_type in PayType] == ["wechat", "alipay", "onecode"]


def test_reprs_hold_no_secret() -> None:
    """A repr shows the number of card keys or bytes, but never a card key, a byte or the appsecret."""
    chunk = Chunk(index=0, lines=(1, 2), keys=("CANARY-A", "CANARY-B"))
    outcome = failed(chunk, Fate.UNKNOWN)
    ledger = Ledger()
    ledger.add(outcome)
    report = ledger.report(stopped=None)
    reprs = [
        repr(value)
        for value in (
            Credentials("K", "CANARY-SECRET"),
            KaCreate(8, ["CANARY-A", "CANARY-B"]),
            KEY,
            CardKeyPage(total=1, per_page=50, current_page=1, last_page=1, keys=(KEY,)),
            chunk,
            outcome,
            report,
            ledger.progress(),
            QrCode(b"CANARY-BYTES"),
        )
    ]
    assert not [text for text in reprs if "CANARY" in text]
    assert repr(Credentials("K", "CANARY-SECRET")) == "Credentials(appkey='K')"
    assert repr(KaCreate(8, ["CANARY-A", "CANARY-B"])) == "KaCreate(product_id=8, keys=<2>)"
    assert repr(chunk) == "Chunk(index=0)"
    assert repr(QrCode(b"CANARY-BYTES")) == "QrCode(data=<12>)"
    assert "chunks=<1>" in repr(report)
    assert "CANARY" not in str(KEY) + str(report)
