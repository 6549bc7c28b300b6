"""What tests of the console share: a console as a process, and a browser's way of listening to it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
from cli_world import alarm as stored

from bus import clients, headers
from models.alarm import Alarm, AlarmEvent
from models.catalogue import ALARM_EVENT, ALARM_STATE


class Told(NamedTuple):
    """One event of the stream."""

    id: str | None
    event: str
    data: dict


class Listening:
    """A browser's EventSource: it remembers the id of the last event that had one."""

    def __init__(self, base):
        self.base, self.last_id, self.got = base, None, []

    async def events(self):
        """Until the server ends it, or whoever asks has enough."""
        asked = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        async with (
            httpx.AsyncClient(timeout=30) as client,
            client.stream("GET", f"{self.base}/api/stream", headers=asked) as answer,
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "event" in fields:
                    self.last_id = fields.get("id", self.last_id)
                    told = Told(fields.get("id"), fields["event"], json.loads(fields["data"]))
                    self.got.append(told)
                    yield told
                fields = {}

    async def until(self, enough, within_s=20):
        """Listen until an event is enough; that event."""
        async with asyncio.timeout(within_s):
            async for told in self.events():
                if enough(told):
                    return told
        raise AssertionError("the stream ended")

    def alarms(self):
        return [told for told in self.got if told.event == "alarm"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Console:
    """`citywatch console` on a data folder and a broker, as a process of its own."""

    def __init__(self, folder, bootstrap, log_id, *, port=None):
        self.port = port or free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.said = (folder / "console.log").open("a+")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CITYWATCH_")}
        environ |= {
            "CITYWATCH_KAFKA__BOOTSTRAP": bootstrap,
            "CITYWATCH_KAFKA__LOG_ID": log_id,
            "CITYWATCH_KAFKA__EMBEDDED": "true",
            "CITYWATCH_DATA__DIR": str(folder),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "console", "--tied", "--port", str(self.port)],
            env=environ, stdin=subprocess.PIPE, stdout=self.said, stderr=self.said,
        )  # fmt: skip

    def __enter__(self):
        self.wait_for("/health")
        return self

    async def ask(self, path):
        async with httpx.AsyncClient() as client:
            return await client.get(f"{self.base}{path}")

    def wait_for(self, path, says="", within_s=20):
        """Return the answer when it is 200 and says this."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                answer = httpx.get(f"{self.base}{path}")
                if answer.status_code == 200 and says in answer.text:
                    return answer
            except httpx.TransportError:
                assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def log(self):
        self.said.flush()
        self.said.seek(0)
        return self.said.read()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        self.process.stdin.close()
        self.said.close()


def an_alarm(id_, position, state="UNACK", **more):
    return Alarm.model_validate({**stored(id_, state=state, **more).body, "position": position})


@asynccontextmanager
async def alarm_plane(bootstrap):
    """Writes what the alarms worker writes: `await say(alarm)`, `await tell(entry)`; their offsets."""
    async with clients.aio_producer(bootstrap) as producer:

        async def send(topic, key, value, id_):
            now = time.time_ns() // 1000
            sent = await producer.send_and_wait(
                topic, value, key=key.encode(), partition=0, timestamp_ms=now // 1000,
                headers=headers.headers(id_, topic, "/citywatch/alarms", now),
            )  # fmt: skip
            return sent.offset

        async def say(alarm):
            value = alarm.model_dump_json(exclude_none=True).encode()
            return await send(ALARM_STATE, alarm.alarm_id, value, f"{alarm.alarm_id}/{alarm.position}")

        async def tell(id_, type_, alarm, **more):
            entry = AlarmEvent(id=id_, type=type_, at=alarm.raised_at, alarm=alarm, **more)
            value = entry.model_dump_json(exclude_none=True).encode()
            return await send(ALARM_EVENT, alarm.fingerprint, value, id_)

        say.entry = tell
        yield say
