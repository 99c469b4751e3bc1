"""Tests of ``keys upload --durable`` and ``uploads``: queueing, interrupting and resuming uploads."""

import errno
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
from durable_workspace import POLL_S, poll_often

from gatepay_async.cli import output, queue
from gatepay_async.cli.commands import keys_durable, uploads, uploads_work
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.durable import QueueUnavailableError
from gatepay_async.durable.records import batches
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("home")]

POSTGRESQL = "postgresql://user:hush@127.0.0.1:1/db"  # no server listens on port 1
ENDPOINT_CLOSED = 107  # the code with which ka/create refuses every chunk
INITIAL_KEYS = 89  # card keys that the sandbox's product 8 has from the start


@pytest.fixture(autouse=True)
def small_batches_and_frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use batches of two chunks, and poll more often than once a second."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 2)
    monkeypatch.setattr(uploads_work, "_POLL_INTERVAL_S", POLL_S)
    poll_often(monkeypatch)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with card keys for several batches."""
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"KEY-{number:06d}\n" for number in range(2500)))
    return path


def count_upload_calls(shop: Sandbox) -> int:
    return sum(request.endpoint == "ka/create" for request in shop.requests)


def test_each_shop_and_server_has_a_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Spellings of the same base URL name the same queue; another URL or appkey names another one."""
    monkeypatch.setenv("GATEPAY_UPLOADS", f"sqlite:///{tmp_path / 'uploads.sqlite3'}")

    def queue_name(url: str, appkey: str = "K") -> str:
        monkeypatch.setenv("GATEPAY_BASE_URL", url)
        monkeypatch.setenv("GATEPAY_APPKEY", appkey)
        return queue.durable_uploads()._queue

    expected = queue_name("https://gatepay.io/api/")
    spellings = ("https://gatepay.io/api", "HTTPS://GatePay.io/api/", " https://gatepay.io/api/\n", "")
    assert {queue_name(url) for url in spellings} == {expected}
    others = {
        queue_name("https://gatepay.io/other/"), queue_name("https://gatepay.io/api/", "L"), queue_name("no URL"),
    }  # fmt: skip
    assert len(others - {expected}) == 3


def test_durable_upload_reports_the_same_job_when_repeated(
    gatepay: Any, shop: Sandbox, tmp_path: Path, home: Path
) -> None:
    """A durable upload has the report of a plain upload. Repeating it returns the same job and sends nothing."""
    path = tmp_path / "keys.txt"
    path.write_bytes(b"\xef\xbb\xbfAAAA-1\r\n\r\nBBBB-2\n AAAA-1 \nCCCC-3")
    first_run = gatepay("keys", "upload", path, "-p", 8, "--durable", "--json")
    assert first_run.status == 0
    report = {name: first_run.json[name] for name in ("read", "blank", "duplicates", "stored", "ok", "state")}
    assert report == {"read": 5, "blank": 1, "duplicates": 1, "stored": 3, "ok": True, "state": "done"}
    assert shop.keys(8)[INITIAL_KEYS:] == ["AAAA-1", "BBBB-2", "CCCC-3"]
    assert f"Upload {first_run.json['job']} is queued: 3 card keys." in first_run.err
    assert "Nothing was sent" not in first_run.err
    calls_before = count_upload_calls(shop)
    for option in ("--durable", "--no-wait"):
        second_run = gatepay("keys", "upload", path, "-p", 8, option, "--json")
        assert (second_run.status, second_run.json["job"]) == (0, first_run.json["job"])
        assert count_upload_calls(shop) == calls_before
        assert re.search(r"was done on 20[-0-9]+ [:0-9]+ [+-][0-9]{4}\. Nothing was sent", second_run.err)
    [listed] = gatepay("uploads", "list", "--json").json["jobs"]
    assert listed["created"] <= listed["ended"]
    assert "ended" in gatepay("uploads", "show", first_run.json["job"]).out
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert b"BBBB-2" not in b"".join(path.read_bytes() for path in files)


@pytest.mark.slow
def test_job_is_submitted_worked_watched_and_deleted_in_both_languages(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    done_texts = {"en": "All card keys are on the server.", "zh": "全部卡密都已在服务器上"}
    queued = gatepay("keys", "upload", keys, "-p", 8, "--no-wait")
    assert queued.status == 0
    assert "gatepay uploads work" in queued.out
    [job] = re.findall(r"[0-9a-f]{24}", queued.out)
    for lang, done in done_texts.items():
        waiting = gatepay("uploads", "show", job, "--lang", lang)
        assert waiting.status == 0
        assert waiting.out.count("2,500") == 3  # card keys, read lines, pending lines
        assert done not in gatepay("uploads", "list", "--lang", lang).out
    assert gatepay("uploads", "work", "--drain", "--concurrency", 8, "--lang", "zh").status == 0
    for lang, done in done_texts.items():
        assert done in gatepay("uploads", "watch", job[:6], "--lang", lang).out
        assert done in gatepay("uploads", "show", job, "--lang", lang).out
        listed = gatepay("uploads", "list", "--lang", lang)
        assert job[:8] in listed.out
        assert "keys.txt" in listed.out
    assert gatepay("uploads", "delete", job, "--lang", "zh").status == 0
    assert job[:8] not in gatepay("uploads", "list").out
    assert len(shop.keys(8)) == INITIAL_KEYS + 2500


@pytest.mark.slow
def test_each_uploads_command_prints_json(gatepay: Any, shop: Sandbox, keys: Path) -> None:
    queued = gatepay("keys", "upload", keys, "-p", 8, "--no-wait", "--json")
    assert queued.json["count"] == 2500
    job = queued.json["job"]
    [listed] = gatepay("uploads", "list", "--json").json["jobs"]
    shown = gatepay("uploads", "show", job, "--json")
    assert (shown.status, shown.json) == (0, listed)
    assert (listed["name"], listed["state"], listed["to_come"]) == (str(keys), "working", 2500)
    assert gatepay("uploads", "cancel", job, "--json").json["state"] == "cancelled"
    ended = gatepay("uploads", "show", job, "--json")
    assert (ended.status, ended.json["not_sent"], ended.json["state"]) == (1, 2500, "cancelled")
    printed = gatepay("uploads", "show", job)
    assert "`gatepay uploads resume` to continue" in printed.out
    assert "stopped early" not in printed.err
    assert gatepay("uploads", "resume", job, "--json").json["state"] == "working"
    assert gatepay("uploads", "work", "--drain", "--json", "--rate", 1000).json == {"drained": True}
    assert gatepay("uploads", "watch", job, "--json").json["stored"] == 2500
    assert gatepay("uploads", "delete", job, "--json").json == {"job": job, "deleted": True}
    assert len(shop.keys(8)) == INITIAL_KEYS + 2500


@pytest.mark.slow
def test_several_gb18030_files_are_one_durable_upload(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Several GB18030 files are one input, and an invalid line is reported with file and line."""
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    first.write_bytes("卡密-甲\n卡密-乙\n".encode("gb18030"))
    second.write_bytes("卡密-乙\n卡密-丙\n".encode("gb18030"))
    run = gatepay("keys", "upload", first, second, "-p", 8, "--durable", "--encoding", "gb18030", "--json")
    assert (run.json["read"], run.json["duplicates"], run.json["stored"]) == (4, 1, 3)
    assert shop.keys(8)[INITIAL_KEYS:] == ["卡密-甲", "卡密-乙", "卡密-丙"]
    assert gatepay("uploads", "list", "--json").json["jobs"][0]["name"] == f"{first} + 1 more"
    piped = gatepay("keys", "upload", "-", "-p", 8, "--durable", "--as-is", "--json", input=b"AAAA\n\xff\xfe\nBBBB\n")
    assert (piped.status, piped.json["stored"], piped.json["refused"]) == (1, 2, 1)
    assert (piped.json["troubles"][0]["first"], piped.json["troubles"][0]["cause"]) == (
        "standard input:2",
        "can't be encoded as UTF-8",
    )


def test_invalid_input_is_not_submitted(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """No job is created for an invalid file, for --failed-lines that name the input, or for --dry-run."""
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"AAAA\nx\0y\n")
    run = gatepay("keys", "upload", keys, bad, "-p", 8, "--durable")
    assert run.status == 2
    assert "line 2 contains a NUL" in run.err
    run = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--failed-lines", keys)
    assert run.status == 2
    assert gatepay("uploads", "list", "--json").json == {"jobs": []}
    assert gatepay("keys", "upload", keys, "-p", 8, "--durable", "--dry-run").status == 0
    assert not shop.requests


@pytest.mark.slow
def test_refused_job_is_resumed(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """A refusal of all chunks stops the job and writes the unsent lines to the file; `resume` sends them."""
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED, times=None))
    failed = tmp_path / "failed.txt"
    run = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--failed-lines", failed)
    assert run.status == 3
    assert "stopped early" in run.err
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
    assert (after.status, failed.read_text()) == (0, before)  # no line failed, so the file is not replaced
    assert f"{failed} is unchanged." in after.err
    assert len(shop.keys(8)) == INITIAL_KEYS + 2500


def test_failed_lines_of_a_job_keep_the_encoding_of_the_input(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    file, failed = tmp_path / "gbk.txt", tmp_path / "failed.txt"
    file.write_bytes("卡密-一\n卡密-二\n".encode("gbk"))
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED, times=None))
    options = ("--durable", "--encoding", "gbk", "--failed-lines", failed)
    assert gatepay("keys", "upload", file, "-p", 8, *options).status == 3
    assert failed.read_bytes() == file.read_bytes()


def test_spool_that_is_a_file_is_named(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool folder that can't be used is an error with its path; a closed pipe is not an error of the queue."""
    monkeypatch.setenv("GATEPAY_UPLOADS_SPOOL", str(keys))
    run = gatepay("keys", "upload", keys, "-p", 8, "--no-wait")
    assert (run.status, run.err) == (2, f"Error: Can't use {keys}: File exists.\n")
    with pytest.raises(BrokenPipeError), queue.explain_errors():
        raise BrokenPipeError
    assert not shop.requests


def test_full_disk_of_the_queue_has_status_5() -> None:
    """A write error has no path. Its message contains the system's reason."""
    with (
        pytest.raises(HaltError, match="Can't write the queue or its card keys: No space left") as caught,
        queue.explain_errors(),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.status is Status.NO_OUTPUT


@pytest.mark.slow
def test_job_without_its_spool_is_sent_by_a_new_upload(gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path) -> None:
    """If the spool of a job is deleted, nothing is sent, and the report advises to upload the same input again."""
    job = gatepay("keys", "upload", keys, "-p", 8, "--no-wait", "--json").json["job"]
    [spooled] = tmp_path.rglob("*.keys")
    spooled.unlink()
    assert gatepay("uploads", "work", "--drain").status == 0
    report = gatepay("uploads", "show", job, "--json")
    assert (report.status, report.json["not_sent"], report.json["stopped"]) == (4, 2500, "SourceChangedError")
    assert "is gone; none of it was sent" in report.json["troubles"][0]["cause"]
    assert "Run `gatepay keys upload` on the same input again" in report.json["troubles"][0]["todo"]
    assert not shop.keys(8)[INITIAL_KEYS:]
    assert gatepay("keys", "upload", keys, "-p", 8, "--durable").status == 0
    assert len(shop.keys(8)) == INITIAL_KEYS + 2500


@pytest.mark.slow
def test_unknown_or_ambiguous_job_id_is_an_error(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An ID that no job or several jobs start with is an error that names `uploads list`."""
    for number in range(17):  # with 17 jobs, at least two IDs start with the same hexadecimal digit
        path = tmp_path / "keys.txt"
        path.write_text(f"KEY-{number}\n")
        gatepay("keys", "upload", path, "-p", 8, "--no-wait")
    ids = [job["job"] for job in gatepay("uploads", "list", "--json").json["jobs"]]
    ambiguous = next(digit for digit in "0123456789abcdef" if sum(job_id.startswith(digit) for job_id in ids) > 1)
    for prefix, expected in (
        ("x", "There is no upload x."),
        (ambiguous, f"Several uploads have an ID that starts with {ambiguous}."),
        ("", "no upl"),  # an empty prefix names no job, although all IDs start with it
    ):
        run = gatepay("uploads", "show", prefix)
        assert run.status == 2
        assert expected in run.err
        assert "gatepay uploads list" in run.err
    # A job that hasn't ended can't be deleted. The error starts with its complete ID.
    assert gatepay("uploads", "delete", ids[0]).err.startswith("Error: shop-")
    assert not shop.requests


UNUSABLE_QUEUES: list[tuple[dict[str, str], int, str]] = [
    ({"GATEPAY_UPLOADS": "mysql://host/db"}, 2, "must be sqlite:///a/file"),
    ({"GATEPAY_UPLOADS": POSTGRESQL}, 2, "GATEPAY_UPLOADS_SPOOL: is missing"),
    ({"GATEPAY_UPLOADS": POSTGRESQL, "GATEPAY_UPLOADS_SPOOL": "spool"}, 4, "the queue's database can't be used"),
    ({"GATEPAY_UPLOADS": "sqlite:////dev/null/a"}, 4, "Not a directory"),
    ({"HOME": "/dev/null"}, 2, "/dev/null"),
    ({"GATEPAY_APPKEY": ""}, 2, "GATEPAY_APPKEY"),
]


def test_unusable_queue_is_explained_without_the_password(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the queue's URL is invalid or its database can't be reached, the error doesn't show the database password."""
    for variables, status, expected in UNUSABLE_QUEUES:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            run = gatepay("uploads", "list")
        assert (variables, run.status) == (variables, status)
        assert expected in run.err
        assert "hush" not in run.err + run.out
        assert "Traceback" not in run.err
    assert not shop.requests


def test_missing_durable_extra_is_named(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gatepay_async.durable", None)
    run = gatepay("keys", "upload", keys, "-p", 8, "--durable")
    assert run.status == 2
    assert "pip install 'gatepay-async[durable]'" in run.err
    assert not shop.requests


def test_rate_must_be_a_positive_number(gatepay: Any) -> None:
    for rate in ("0", "-1", "inf", "fast"):
        run = gatepay("uploads", "work", f"--rate={rate}")
        assert (rate, run.status) == (rate, 2)
        assert f"{rate} (must be a number above 0)" in run.err


def interrupt_on_warning(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    """Send SIGINT as soon as the command warns with a text that contains *pattern*."""

    def warn(text: str) -> None:
        output.warn(text)
        if pattern in text:
            os.kill(os.getpid(), signal.SIGINT)

    for module in (keys_durable, uploads_work):
        monkeypatch.setattr(module, "warn", warn)


@pytest.mark.slow
def test_interrupted_durable_upload_continues_when_repeated(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    After Ctrl-C at any moment the job remains, and the same command continues it.

    With --json the report is printed.
    """
    with monkeypatch.context() as patched:
        interrupt_on_warning(patched, "is queued")
        run = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--json")
    assert (run.status, run.json["state"], run.json["read"]) == (130, "working", 2500)
    assert "run the same command again" in run.err
    with monkeypatch.context() as patched:
        interrupt_on_warning(patched, "Running")
        assert gatepay("uploads", "work").status == 130
    assert gatepay("keys", "upload", keys, "-p", 8, "--durable", "--json").json["ok"]
    assert len(shop.keys(8)) == INITIAL_KEYS + 2500


@pytest.mark.slow
def test_ctrl_c_after_the_last_call_shows_the_result(
    gatepay: Any, shop: Sandbox, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the last call has no effect: the result is shown with status 0."""
    follow = uploads.follow

    async def follow_and_interrupt(job: Any) -> None:
        await follow(job)
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

    monkeypatch.setattr(uploads, "follow", follow_and_interrupt)
    run = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--json")
    assert (run.status, run.json["state"], run.json["stored"]) == (0, "done", 2500)
    assert "Interrupted" not in run.err


@pytest.mark.slow
def test_failed_lines_are_not_replaced_without_the_spool(
    gatepay: Any, shop: Sandbox, keys: Path, tmp_path: Path
) -> None:
    """If the spool is deleted, the existing file of failed lines is kept and a warning counts the lost lines."""
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=ENDPOINT_CLOSED, times=None))
    failed = tmp_path / "failed.txt"
    job = gatepay("keys", "upload", keys, "-p", 8, "--durable", "--failed-lines", failed, "--json").json["job"]
    before = failed.read_text()
    [spooled] = tmp_path.rglob("*.keys")
    spooled.unlink()
    run = gatepay("uploads", "show", job, "--failed-lines", failed)
    assert (run.status, failed.read_text()) == (3, before)
    assert f"The card keys of 2,500 lines are no longer stored, so they can't be written to {failed}." in run.err
    assert f"{failed} is unchanged." in run.err
    assert "You can upload that file" not in run.out


def test_list_skips_a_job_that_cant_be_read(gatepay: Any, shop: Sandbox, tmp_path: Path, home: Path) -> None:
    """A job whose database row is damaged is named on standard error, and the other jobs are listed."""
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
    run = gatepay("uploads", "list", "--json")
    assert [job["job"] for job in run.json["jobs"]] == [jobs[2]]
    assert f"{jobs[0]}.0.0" in run.err
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gatepay_async.durable.jobs.Job.info", _raise_unavailable)
        assert gatepay("uploads", "list").status == 4


async def _raise_unavailable(_: object) -> None:
    raise QueueUnavailableError(reason="nobody is there")
