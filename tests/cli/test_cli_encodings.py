"""Tests of uploads in other encodings than UTF-8."""

from pathlib import Path
from typing import Any

import pytest

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

ENDPOINT_CLOSED = 107  # the code with which ka/create refuses every chunk
KEYS = ["卡密-一", "卡密-二", "PLAIN-3"]


def test_failed_lines_keep_the_encoding_of_the_input(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """The same command can upload the file of failed lines."""
    failed = tmp_path / "failed.txt"
    for encoding in ("gb18030", "gbk", "big5", "utf-8"):
        keys = [f"{encoding}-{key}" for key in (KEYS if encoding != "big5" else ["卡號-一", "PLAIN"])]
        file = tmp_path / "keys.txt"
        file.write_bytes("".join(f"{key}\n" for key in keys).encode(encoding))
        options = ("-p", 8, "--encoding", encoding)
        shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED))
        assert gatepay("keys", "upload", file, *options, "--failed-lines", failed).status == 3
        assert failed.read_bytes() == file.read_bytes(), encoding
        assert gatepay("keys", "upload", failed, *options).status == 0
        assert shop.keys(8)[-len(keys) :] == keys


def test_unread_lines_keep_the_encoding_of_the_input(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """The lines after the point where an upload stopped are written in the encoding of the input."""
    file, failed = tmp_path / "keys.txt", tmp_path / "failed.txt"
    file.write_bytes("".join(f"卡密-{number}\n" for number in range(6000)).encode("gbk"))
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED, times=None))
    run = gatepay("keys", "upload", file, "-p", 8, "--encoding", "gbk", "--failed-lines", failed, "--json")
    assert run.json["read"] < 6000
    assert sorted(failed.read_bytes().split(b"\n")) == sorted(file.read_bytes().split(b"\n"))


def test_utf8_byte_order_mark_contradicts_another_encoding(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """--encoding gbk is refused for a file or pipe that starts with the byte-order mark of UTF-8."""
    data = b"\xef\xbb\xbf" + "".join(f"{key}\n" for key in KEYS).encode()
    file = tmp_path / "keys.txt"
    file.write_bytes(data)
    before = shop.keys(8)
    for encoding in ("gb18030", "gbk", "big5"):
        for run in (
            gatepay("keys", "upload", file, "-p", 8, "--encoding", encoding),
            gatepay("keys", "upload", "-", "-p", 8, "--encoding", encoding, input=data),
        ):
            assert run.status == 2
            assert f"line 1 starts with the byte-order mark of UTF-8, so the file is not {encoding}" in run.err
            assert "remove --encoding" in run.err
    assert shop.keys(8) == before
    assert gatepay("keys", "upload", file, "-p", 8).status == 0
    assert shop.keys(8)[-3:] == KEYS
