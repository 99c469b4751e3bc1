"""``gatepay keys upload --durable`` and ``gatepay uploads``: through a queue, interrupted, taken up again."""

import os
import re
import signal
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from durable_workspace import POLL_S, look_often

from gatepay_async.cli import output, queue
from gatepay_async.cli.commands import keys_durable, uploads, uploads_work
from gatepay_async.durable import QueueUnavailableError
from gatepay_async.durable.records import batches
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("home")]

POSTGRESQL = "postgresql://user:hush@127.0.0.1:1/db"  # where nobody is
EXAMPLES = 89  # card keys that the sandbox's product 8 has from the start


@pytest.fixture(autouse=True)
def small_and_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks are a batch, and what is looked at once a second is looked at more often."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 2)
    monkeypatch.setattr(uploads_work, "_POLL_INTERVAL_S", POLL_S)
    look_often(monkeypatch)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Enough for several batches."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(2500)))
    return path


def calls(shop: Sandbox) -> int:
    return sum(request.endpoint == "ka/create" for request in shop.requests)


def test_a_queue_for_each_shop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However the same address is spelled, it is the same queue; another address, or shop, has its own."""
    monkeypatch.setenv("GATEPAY_UPLOADS", f"sqlite:///{tmp_path / 'uploads.sqlite3'}")

    def name(url: str, appkey: str = "K") -> str:
        monkeypatch.setenv("GATEPAY_BASE_URL", url)
        monkeypatch.setenv("GATEPAY_APPKEY", appkey)
        return queue.durable_uploads()._queue

    usual = name("https://gatepay.io/api/")
    same = ("https://gatepay.io/api", "HTTPS://GatePay.io/api/", " https://gatepay.io/api/\n", "")
    assert {name(url) for url in same} == {usual}
    assert len({usual, name("https://gatepay.io/other/"), name("https://gatepay.io/api/", "L"), name("no URL")}) == 4


def test_upload(gatepay: Any, shop: Sandbox, tmp_path: Path, home: Path) -> None:
    """A file is uploaded through the queue, with the ledger of a plain upload; run again, it is the same job."""
    path = tmp_path / "keys.txt"
    path.write_bytes(b"\xef\xbb\xbfAAAA-1\r\n\r\nBBBB-2\n AAAA-1 \nCCCC-3")
    first = gatepay("keys", "upload", path, "-p", 8, "--durable", "--json")
    assert first.status == 0
    found = {name: first.json[name] for name in ("read", "blank", "duplicates", "stored", "ok", "state")}
    assert found == {"read": 5, "blank": 1, "duplicates": 1, "stored": 3, "ok": True, "state": "done"}
    assert shop.keys(8)[EXAMPLES:] == ["AAAA-1", "BBBB-2", "CCCC-3"]
    assert f"Upload {first.json['job']} is queued: 3 card keys." in first.err
    assert "Nothing was sent" not in first.err
    sent = calls(shop)
    for option in ("--durable", "--no-wait"):
        again = gatepay("keys", "upload", path, "-p", 8, option, "--json")
        assert (again.status, again.json["job"], calls(shop)) == (0, first.json["job"], sent)
        assert re.search(r"was done on 20[-0-9]+ [:0-9]+ [+-][0-9]{4}\. Nothing was sent", again.err)
    [listed] = gatepay("uploads", "list", "--json").json["jobs"]
    assert listed["created"] <= listed["ended"]
    assert "ended" in gatepay("uploads", "show", first.json["job"]).out
    kept = [each for each in home.rglob("*") if each.is_file()]
    assert {stat.S_IMODE(each.stat().st_mode) for each in kept} == {0o600}
    assert b"BBBB-2" not in b"".join(each.read_bytes() for each in kept)


@pytest.mark.slow
def test_for_people(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """Submitted by one, sent by another, watched and listed by a third, cleaned away in the end; in both languages."""
    said = {"en": "All card keys are on the server.", "zh": "全部卡密都已在服务器上"}
    queued = gatepay("keys", "upload", keys, "-p", 8, "--no-wait")
    assert queued.status == 0
    assert "gatepay uploads work" in queued.out
    [number] = re.findall(r"[0-9a-f]{24}", queued.out)
    for lang, done in said.items():
        waiting = gatepay("uploads", "show", number, "--lang", lang)
        assert (waiting.status, waiting.out.count("2,500")) == (0, 3)  # to be sent; read, and still to come
        assert done not in gatepay("uploads", "list", "--lang", lang).out
    assert gatepay("uploads", "work", "--drain", "--concurrency", 8, "--lang", "zh").status == 0
    for lang, done in said.items():
        assert done in gatepay("uploads", "watch", number[:6], "--lang", lang).out
        assert done in gatepay("uploads", "show", number, "--lang", lang).out
        listed = gatepay("uploads", "list", "--lang", lang)
        assert number[:8] in listed.out
        assert "keys.txt" in listed.out
    assert gatepay("uploads", "delete", number, "--lang", "zh").status == 0
    assert number[:8] not in gatepay("uploads", "list").out
    assert len(shop.keys(8)) == EXAMPLES + 2500


@pytest.mark.slow
def test_for_programs(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    """Each command has a document for programs."""
    queued = gatepay("keys", "upload", keys, "-p", 8, "--no-wait", "--json")
    assert queued.json["count"] == 2500
    number = queued.json["job"]
    [listed] = gatepay("uploads", "list", "--json").json["jobs"]
    shown = gatepay("uploads", "show", number, "--json")
    assert (shown.status, shown.json) == (0, listed)
    assert (listed["name"], listed["state"], listed["to_come"]) == (str(keys), "working", 2500)
    assert gatepay("uploads", "cancel", number, "--json").json["state"] == "cancelled"
    ended = gatepay("uploads", "show", number, "--json")
    assert (ended.status, ended.json["not_sent"], ended.json["state"]) == (1, 2500, "cancelled")
    told = gatepay("uploads", "show", number)
    assert "`gatepay uploads resume` to continue" in told.out
    assert "stopped early" not in told.err
    assert gatepay("uploads", "resume", number, "--json").json["state"] == "working"
    assert gatepay("uploads", "work", "--drain", "--json", "--rate", 1000).json == {"drained": True}
    assert gatepay("uploads", "watch", number, "--json").json["stored"] == 2500
    assert gatepay("uploads", "delete", number, "--json").json == {"job": number, "deleted": True}
    assert len(shop.keys(8)) == EXAMPLES + 2500


@pytest.mark.slow
def test_of_several(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Several files, in an encoding of their own, are one input; what can't be a card key is told by file and line."""
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_bytes("卡密-甲\n卡密-乙\n".encode("gb18030"))
    two.write_bytes("卡密-乙\n卡密-丙\n".encode("gb18030"))
    it = gatepay("keys", "upload", one, two, "-p", 8, "--durable", "--encoding", "gb18030", "--json")
    assert (it.json["read"], it.json["duplicates"], it.json["stored"]) == (4, 1, 3)
    assert shop.keys(8)[EXAMPLES:] == ["卡密-甲", "卡密-乙", "卡密-丙"]
    assert gatepay("uploads", "list", "--json").json["jobs"][0]["name"] == f"{one} + 1 more"
    piped = gatepay("keys", "upload", "-", "-p", 8, "--durable", "--as-is", "--json", input=b"AAAA\n\xff\xfe\nBBBB\n")
    assert (piped.status, piped.json["stored"], piped.json["refused"]) == (1, 2, 1)
    assert (piped.json["troubles"][0]["first"], piped.json["troubles"][0]["cause"]) == (
        "standard input:2",
        "can't be encoded as UTF-8",
    )


def test_nothing_is_submitted(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """A file that can't be right is not submitted; nor is anything where failed lines can't be written."""
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"AAAA\nx\0y\n")
    it = gatepay("keys", "upload", keys, bad, "-p", 8, "--durable")
    assert it.status == 2
    assert "line 2 contains a NUL" in it.err
    it = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--failed-lines", keys)
    assert it.status == 2
    assert gatepay("uploads", "list", "--json").json == {"jobs": []}
    assert gatepay("keys", "upload", keys, "-p", 8, "--durable", "--dry-run").status == 0
    assert not shop.requests


@pytest.mark.slow
def test_refused_for_all(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """A refusal that every chunk meets stops it; what was not sent is had as a file, and goes out after `resume`."""
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=107, times=None))
    failed = tmp_path / "failed.txt"
    it = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--failed-lines", failed)
    assert it.status == 3
    assert "stopped early" in it.err
    assert sorted(failed.read_text().splitlines()) == sorted(keys.read_text().splitlines())
    assert stat.S_IMODE(failed.stat().st_mode) == 0o600
    [job] = gatepay("uploads", "list", "--json").json["jobs"]
    assert job["state"] == "stopped"
    shop.clear_faults()
    gatepay("uploads", "resume", job["job"])
    assert gatepay("uploads", "work", "--drain").status == 0
    before = failed.read_text()
    after = gatepay("uploads", "show", job["job"], "--failed-lines", failed)
    assert "stopped" not in gatepay("uploads", "list").out
    assert (after.status, failed.read_text()) == (0, before)  # nothing failed, so nothing is written over it
    assert f"{failed} is unchanged." in after.err
    assert len(shop.keys(8)) == EXAMPLES + 2500


def test_failed_lines_keep_the_encoding(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """The file of failed lines has the encoding of the input, as that of a plain upload."""
    file, failed = tmp_path / "gbk.txt", tmp_path / "failed.txt"
    file.write_bytes("卡密-一\n卡密-二\n".encode("gbk"))
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=107, times=None))
    options = ("--durable", "--encoding", "gbk", "--failed-lines", failed)
    assert gatepay("keys", "upload", file, "-p", 8, *options).status == 3
    assert failed.read_bytes() == file.read_bytes()


def test_a_spool_that_is_none(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where card keys can't be put aside, it is said where; a reader that has gone is no such thing."""
    monkeypatch.setenv("GATEPAY_UPLOADS_SPOOL", str(keys))
    it = gatepay("keys", "upload", keys, "-p", 8, "--no-wait")
    assert (it.status, it.err) == (2, f"Error: Can't use {keys}: File exists.\n")
    with pytest.raises(BrokenPipeError), queue.explain_errors():
        raise BrokenPipeError
    assert not shop.requests


@pytest.mark.slow
def test_its_card_keys_are_lost(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """Where the spool is gone, it is said why nothing is sent, and what to do; that done, all of it is sent."""
    number = gatepay("keys", "upload", keys, "-p", 8, "--no-wait", "--json").json["job"]
    [kept] = tmp_path.rglob("*.keys")
    kept.unlink()
    assert gatepay("uploads", "work", "--drain").status == 0
    told = gatepay("uploads", "show", number, "--json")
    assert (told.status, told.json["not_sent"], told.json["stopped"]) == (4, 2500, "SourceChangedError")
    assert "is gone; none of it was sent" in told.json["troubles"][0]["cause"]
    assert "Run `gatepay keys upload` on the same input again" in told.json["troubles"][0]["todo"]
    assert not shop.keys(8)[EXAMPLES:]
    assert gatepay("keys", "upload", keys, "-p", 8, "--durable").status == 0
    assert len(shop.keys(8)) == EXAMPLES + 2500


@pytest.mark.slow
def test_which(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """A number that nothing begins with, or several do, is told, with how to find out."""
    for number in range(17):  # of seventeen, two begin alike
        path = tmp_path / "keys.txt"
        path.write_text(f"KEY-{number}\n")
        gatepay("keys", "upload", path, "-p", 8, "--no-wait")
    numbers = [job["job"] for job in gatepay("uploads", "list", "--json").json["jobs"]]
    twice = next(each for each in "0123456789abcdef" if sum(number.startswith(each) for number in numbers) > 1)
    for wanted, said in (
        ("x", "There is no upload x."),
        (twice, f"Several uploads have an ID that starts with {twice}."),
        ("", "no upl"),
    ):
        it = gatepay("uploads", "show", wanted)
        assert it.status == 2
        assert said in it.err
        assert "gatepay uploads list" in it.err
    assert gatepay("uploads", "delete", numbers[0]).err.startswith("Error: shop-")
    assert not shop.requests


NOT_THERE: list[tuple[dict[str, str], int, str]] = [
    ({"GATEPAY_UPLOADS": "mysql://host/db"}, 2, "must be sqlite:///a/file"),
    ({"GATEPAY_UPLOADS": POSTGRESQL}, 2, "spool"),
    ({"GATEPAY_UPLOADS": POSTGRESQL, "GATEPAY_UPLOADS_SPOOL": "spool"}, 4, "the queue's database can't be used"),
    ({"GATEPAY_UPLOADS": "sqlite:////dev/null/a"}, 4, "Not a directory"),
    ({"HOME": "/dev/null"}, 2, "/dev/null"),
    ({"GATEPAY_APPKEY": ""}, 2, "GATEPAY_APPKEY"),
]


def test_a_queue_that_is_not_there(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the queue can't be, or isn't reached, the command says so, and never shows the database's password."""
    for variables, status, said in NOT_THERE:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            it = gatepay("uploads", "list")
        assert (variables, it.status) == (variables, status)
        assert said in it.err
        assert "hush" not in it.err + it.out
        assert "Traceback" not in it.err
    assert not shop.requests


def test_without_the_extra(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its extra, the command says which one is missing."""
    monkeypatch.setitem(sys.modules, "gatepay_async.durable", None)
    it = gatepay("keys", "upload", keys, "-p", 8, "--durable")
    assert it.status == 2
    assert "pip install 'gatepay-async[durable]'" in it.err
    assert not shop.requests


def test_rate(gatepay: Any) -> None:
    """A rate is a number above 0."""
    for rate in ("0", "-1", "inf", "fast"):
        it = gatepay("uploads", "work", f"--rate={rate}")
        assert (rate, it.status) == (rate, 2)
        assert f"{rate} (must be a number above 0)" in it.err


def interrupting(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Have Ctrl-C pressed as soon as the command warns of that."""

    def warn(text: str) -> None:
        output.warn(text)
        if when in text:
            os.kill(os.getpid(), signal.SIGINT)

    for module in (keys_durable, uploads_work):
        monkeypatch.setattr(module, "warn", warn)


@pytest.mark.slow
def test_interrupted_here(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at any moment leaves a job that goes on; for programs, it is a document."""
    with monkeypatch.context() as patched:
        interrupting(patched, "is queued")
        it = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--json")
    assert (it.status, it.json["state"], it.json["read"]) == (130, "working", 2500)
    assert "run the same command again" in it.err
    with monkeypatch.context() as patched:
        interrupting(patched, "Running")
        assert gatepay("uploads", "work").status == 130
    assert gatepay("keys", "upload", keys, "-p", 8, "--durable", "--json").json["ok"]
    assert len(shop.keys(8)) == EXAMPLES + 2500


@pytest.mark.slow
def test_interrupted_when_all_is_sent(gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that comes after the last call interrupts nothing: the upload's result is shown, status 0."""
    follow = uploads.follow

    async def until_ctrl_c(job: Any) -> None:
        await follow(job)
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

    monkeypatch.setattr(uploads, "follow", until_ctrl_c)
    it = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--json")
    assert (it.status, it.json["state"], it.json["stored"]) == (0, "done", 2500)
    assert "Interrupted" not in it.err


@pytest.mark.slow
def test_failed_lines_that_the_spool_has_lost(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """A file of failed lines is not replaced by less than is missing; what can't be written is said."""
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=107, times=None))
    failed = tmp_path / "failed.txt"
    job = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--failed-lines", failed, "--json").json["job"]
    before = failed.read_text()
    [spooled] = tmp_path.rglob("*.keys")
    spooled.unlink()
    it = gatepay("uploads", "show", job, "--failed-lines", failed)
    assert (it.status, failed.read_text()) == (3, before)
    assert f"The card keys of 2,500 lines are no longer stored, so they can't be written to {failed}." in it.err
    assert f"{failed} is unchanged." in it.err
    assert "You can upload that file" not in it.out


def test_a_row_that_cant_be_read(gatepay: Any, shop: Sandbox, tmp_path: Path, home: Path) -> None:
    """A job whose row can't be read is named on standard error, and the others are listed."""
    jobs: list[str] = []
    for name in ("one.txt", "two.txt", "three.txt"):
        (tmp_path / name).write_text(f"{name}\n")
        run = gatepay("keys", "upload", tmp_path / name, "-p", 8, "--durable", "--no-wait", "--json")
        jobs.append(run.json["job"])
    [database] = home.rglob("*.sqlite3")
    with sqlite3.connect(database) as connection:
        change = "UPDATE workflow_input SET inputs = '[]' WHERE workflow_uuid LIKE ?"
        assert connection.execute(change, (f"%{jobs[0]}.0.0",)).rowcount == 1  # its only batch
        assert connection.execute(change, (f"%{jobs[1]}",)).rowcount == 1
    connection.close()
    it = gatepay("uploads", "list", "--json")
    assert [job["job"] for job in it.json["jobs"]] == [jobs[2]]
    assert f"{jobs[0]}.0.0" in it.err
    with pytest.MonkeyPatch.context() as away:
        away.setattr("gatepay_async.durable.jobs.Job.info", _unavailable)
        assert gatepay("uploads", "list").status == 4


async def _unavailable(_: object) -> None:
    raise QueueUnavailableError(reason="nobody is there")
