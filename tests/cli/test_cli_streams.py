"""Tests of FIFOs as input and of output encodings."""

import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets


def test_fifo_is_read_like_standard_input(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = Thread(target=fifo.write_text, args=("AAAA\nBBBB\n", "ascii"))
    writer.start()
    run = gatepay("keys", "upload", fifo, "-p", 8, "--json")
    writer.join()
    assert run.json["stored"] == 2
    assert shop.keys(8)[-2:] == ["AAAA", "BBBB"]


def test_output_without_chinese_is_english_with_escapes(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the output encoding has no Chinese, texts are English, names are escaped and JSON is ASCII."""
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "可售库存" in gatepay("products").out
    assert "可售库存" in gatepay("products", charset="gb18030").out
    english = gatepay("products", charset="ascii").out
    assert "in stock" in english
    assert r"\u817e" in english
    assert r"\u53ef" in gatepay("products", "--lang", "zh", charset="ascii").out
    assert gatepay("products", "--json", charset="ascii").out.isascii()
    assert "腾讯" in gatepay("products", "--json").out
    monkeypatch.setenv("LC_ALL", "C")
    assert "in stock" in gatepay("products").out
    assert shop.requests
