"""Checks the extra `redis`: RedisStore handles a callback once. Without redis-server, only creates a store."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import anyio
import httpx

from gatepay_async import Callback
from gatepay_async.callbacks import CallbackApp, RedisStore
from gatepay_async.testing import signed_callback

handled: list[str] = []


async def handler(callback: Callback) -> None:
    """Deliver the order."""
    handled.append(callback.out_order_id)


async def main(folder: str) -> None:
    """Send the same callback twice."""
    store = RedisStore(f"unix://{folder}/redis.sock")
    app = CallbackApp(handler, appkey="a", appsecret="b", store=store)
    with anyio.fail_after(30):
        while not (Path(folder) / "redis.sock").exists():
            await anyio.sleep(0.01)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as gatepay:
        answers = [(await gatepay.get("/?" + signed_callback(appkey="a", appsecret="b"))).text for _ in range(2)]
    await store.aclose()
    print(answers, handled)
    assert (answers, handled) == (["success", "success"], ["T-1001-X"])


program = shutil.which("redis-server")
if program is None:
    print(RedisStore("redis://127.0.0.1"), "(no redis-server here)")
else:
    with tempfile.TemporaryDirectory() as new_folder:
        settings = ["--port", "0", "--unixsocket", f"{new_folder}/redis.sock", "--dir", new_folder, "--save", ""]
        with subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL) as redis:
            try:
                anyio.run(main, new_folder)
            finally:
                redis.terminate()
