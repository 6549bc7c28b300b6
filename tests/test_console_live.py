"""The console as a process on a broker: nothing is lost, nothing doubled, whatever is cut, killed or away."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from console_world import Console, Listening, alarm_plane, an_alarm, free_port

from bus import clients, headers, topics
from bus.embedded import EmbeddedBroker
from models.alarm import COMMAND_TYPE, Command
from models.base import moment
from models.catalogue import ALARM_INPUT
from models.traffic import TrafficFlow
from rules import load

pytestmark = pytest.mark.slow

FLOW = "city.traffic.flow.v1"


@pytest.fixture
def broker():
    with EmbeddedBroker() as found:
        topics.publish_rules(found.bootstrap, "", load.default().canonical(), time.time_ns() // 1000)
        yield found


@pytest.fixture
def console(broker, tmp_path):
    with Console(tmp_path, broker.bootstrap, broker.log_id) as found:
        found.wait_for("/ready")
        yield found


def is_alarm(id_):
    return lambda told: told.event == "alarm" and told.data["alarm_id"] == id_


def is_snapshot(told):
    return told.event == "snapshot"


def test_a_record_of_an_alarm_comes_out_with_its_place_in_the_log(broker, console):
    async def go():
        async with alarm_plane(broker.bootstrap) as say:
            await say(an_alarm("before", 1))
            browser = Listening(console.base)
            events = browser.events()
            snapshot = await anext(events)
            while not snapshot.data["alarms"]:  # it joined before the first record was read
                snapshot = snapshot._replace(data={"alarms": [(await anext(events)).data]})
            at = await say(an_alarm("a", 2))
            async for told in events:
                if told.event == "alarm" and told.data["alarm_id"] == "a":
                    assert told.id == f"{broker.log_id}/{at}"
                    break
            await say.entry("e1", "raised", an_alarm("a", 2))
            async for told in events:
                if told.event == "entry":
                    assert told.data["alarm_id"] == "a"
                    assert told.data["entry"]["id"] == "e1"
                    assert told.id is None
                    break
            await events.aclose()
        detail = (await console.ask("/api/alarms/a")).json()
        assert [e["id"] for e in detail["timeline"]] == ["e1"]
        assert detail["rule"]["id"] == "road-jammed"
        assert (await console.ask("/api/latency")).json()["alarm"]["n"] >= 1

    asyncio.run(go())


def test_a_stale_record_of_a_worker_that_slept_is_not_shown(broker, console):
    async def go():
        async with alarm_plane(broker.bootstrap) as say:
            await say(an_alarm("a", 5, "ACKED"))
            await say(an_alarm("a", 3, "UNACK"))
            await say(an_alarm("z", 6))
            browser = Listening(console.base)
            await browser.until(
                lambda told: (
                    "z" in {a["alarm_id"] for a in told.data.get("alarms", [told.data]) if "alarm_id" in a}
                )
            )
        shown = {a["alarm_id"]: a["state"] for a in (await console.ask("/api/alarms")).json()["alarms"]}
        assert shown == {"a": "ACKED", "z": "UNACK"}
        assert "citywatch_console_repeats 1.0" in (await console.ask("/metrics")).text

    asyncio.run(go())


def test_twenty_cuts_lose_nothing_and_double_nothing(broker, console):
    async def go():
        browser = Listening(console.base)
        await browser.until(is_snapshot)
        written = []

        async def write(say):
            for n in range(400):
                written.append(f"{broker.log_id}/{await say(an_alarm(f'a{n % 40}', n))}")
                await asyncio.sleep(0.005)

        async with alarm_plane(broker.bootstrap) as say:
            writing = asyncio.create_task(write(say))
            for cut in range(20):
                seen = len(browser.alarms())
                await browser.until(lambda _told, least=seen + 1 + cut % 7: len(browser.alarms()) >= least)
            await writing
            await browser.until(lambda told: told.id == written[-1])
        assert [told.id for told in browser.alarms()] == written
        assert [told.event for told in browser.got].count("snapshot") == 1

    asyncio.run(go())


def test_a_console_that_is_killed_and_started_again_goes_on_where_it_was(broker, tmp_path):
    async def go():
        port, written = free_port(), []

        async def write(say, positions):
            for n in positions:
                offset = await say(an_alarm(f"a{n % 7}", n))
                written.append(f"{broker.log_id}/{offset}")

        async with alarm_plane(broker.bootstrap) as say:
            with Console(tmp_path, broker.bootstrap, broker.log_id, port=port) as first:
                browser = Listening(first.base)
                await browser.until(is_snapshot)
                await write(say, range(30))
                await browser.until(lambda told: told.id == written[9])
                first.process.kill()
                first.process.wait()
            await write(say, range(30, 60))
            with Console(tmp_path, broker.bootstrap, broker.log_id, port=port):
                await browser.until(lambda told: told.id == written[-1])
        assert [told.id for told in browser.alarms()] == written
        assert [told.event for told in browser.got].count("snapshot") == 1

    asyncio.run(go())


def test_who_reads_too_slowly_is_cut_off_and_resumes_without_a_gap(broker, console):
    async def go():
        sleeper = socket.create_connection(("127.0.0.1", console.port))
        sleeper.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        text = b""
        while b"event: snapshot" not in text:
            text += sleeper.recv(4096)
        many = 18_000  # 16 MB: what the kernel takes of it, and more than may wait here
        async with clients.Feeder(broker.bootstrap) as feeder:
            for n in range(many):
                value = an_alarm(f"a{n % 50}", n).model_dump_json(exclude_none=True).encode()
                await feeder.send(
                    "city.alarm.state.v1", b"k", value, [], time.time_ns() // 10**6, partition=0
                )
                if n % 500 == 0:
                    await feeder.flush()
                    await asyncio.sleep(0.1)  # so that 5 MiB of the broker are enough

        console.wait_for("/metrics", "citywatch_console_overflows 1.0")
        sleeper.settimeout(10)
        parts = [text]
        while not parts[-1].endswith(
            b"0\r\n\r\n"
        ):  # the end of a chunked answer: it was cut between two events
            parts.append(sleeper.recv(1 << 20))
        sleeper.close()
        text = b"".join(parts)
        browser = Listening(console.base)
        numbers = [line.rpartition("/")[2] for line in text.decode().splitlines() if line.startswith("id: ")]
        browser.last_id = f"{broker.log_id}/{numbers[-1]}"
        await browser.until(lambda told: told.id == f"{broker.log_id}/{many - 1}")
        ids = [int(n) for n in numbers] + [int(told.id.rpartition("/")[2]) for told in browser.alarms()]
        assert [n for n in ids if n >= 0] == list(range(many))

    asyncio.run(go())


def test_what_the_log_forgot_before_it_was_read_is_told_and_everything_anew(broker, console):
    async def go():
        browser = Listening(console.base)
        await browser.until(is_snapshot)
        console.process.send_signal(signal.SIGSTOP)
        many = 12_000  # 11 MB; a partition keeps 5
        async with clients.Feeder(broker.bootstrap) as feeder:
            for n in range(many):
                value = an_alarm(f"a{n % 50}", n).model_dump_json(exclude_none=True).encode()
                await feeder.send(
                    "city.alarm.state.v1", b"k", value, [], time.time_ns() // 10**6, partition=0
                )
        console.process.send_signal(signal.SIGCONT)
        await browser.until(
            lambda told: any(
                a["position"] == many - 1 for a in told.data.get("alarms", [told.data]) if "position" in a
            )
        )
        offsets = [int(told.id.rpartition("/")[2]) for told in browser.got if told.id is not None]
        gaps = [
            told.event
            for told, offset, before in zip(
                [t for t in browser.got if t.id is not None][1:], offsets[1:], offsets, strict=False
            )
            if offset > before + 1
        ]
        assert set(gaps) <= {"snapshot"}, "what was passed over is never hidden"
        assert "has forgotten" in console.log()
        shown = (await console.ask("/api/alarms")).json()["alarms"]
        assert sorted(a["position"] for a in shown) == list(range(many - 50, many))

    asyncio.run(go())


def test_an_acknowledgement_is_in_the_log_when_it_is_answered_and_only_the_first_counts(broker, console):
    async def go():
        async with alarm_plane(broker.bootstrap) as say:
            await say(an_alarm("a", 1))
            await Listening(console.base).until(
                lambda told: (
                    is_alarm("a")(told) or any(a["alarm_id"] == "a" for a in told.data.get("alarms", ()))
                )
            )

            def ask(command_id, actor, alarm_id="a"):
                body = {
                    "command_id": command_id,
                    "action": "acknowledge",
                    "alarm_id": alarm_id,
                    "actor": actor,
                }
                return httpx.post(f"{console.base}/api/commands", json=body)

            done = await asyncio.to_thread(ask, "c1", "first")
            assert done.status_code == 200
            record = list(clients.records(broker.bootstrap, (ALARM_INPUT, 0)))[-1]
            assert record.offset == done.json()["offset"]
            assert headers.type_of(record.headers) == COMMAND_TYPE
            assert record.key == b"f-a"
            command = Command.model_validate_json(record.value)
            assert (command.command_id, command.actor) == ("c1", "first")

            second = await asyncio.to_thread(ask, "c2", "second")
            assert second.status_code == 409
            assert second.json()["alarm"]["alarm_id"] == "a"
            again = await asyncio.to_thread(ask, "c1", "first")
            assert (again.status_code, again.json()) == (200, done.json())

            browser = Listening(console.base)
            acked = an_alarm("a", 2, "ACKED", acked_by="first", acked_at="2026-01-01T00:00:05Z")
            await say(acked)
            await browser.until(lambda told: json.dumps(told.data).count("ACKED") > 0)
            late = await asyncio.to_thread(ask, "c2", "second")
            assert late.status_code == 409
            assert "first at 2026-01-01T00:00:05Z" in late.json()["detail"]
            assert late.json()["alarm"]["state"] == "ACKED"
        assert len(list(clients.records(broker.bootstrap, (ALARM_INPUT, 0)))) == record.offset + 1

    asyncio.run(go())


def test_what_sensors_say_is_seen_and_others_are_waited_for(broker, console):
    key = next(s.key for s in load.default().registry.of(FLOW))

    async def go():
        async with clients.Feeder(broker.bootstrap) as feeder:
            now = time.time_ns() // 1000
            event = TrafficFlow(
                event_id="e", source_id="t", observed_at=moment(now), segment_id=key, speed_kmh=31.5
            )
            await feeder.send(FLOW, key.encode(), event.wire(), [], now // 1000)
        browser = Listening(console.base)
        found = await browser.until(
            lambda told: any(s["values"] for s in told.data.get("seen", ())), within_s=10
        )
        one = next(s for s in found.data["seen"] if s["values"])
        assert one["id"] == f"{FLOW}|{key}"
        assert (one["status"], one["values"]) == ("ok", {"speed_kmh": 31.5})
        health = (await console.ask("/api/health")).json()
        assert health["sensors"]["ok"] == 1
        assert health["sensors"]["waiting"] > 100

    asyncio.run(go())


_BROKER = """
import sys, time
from bus import topics
from bus.embedded import EmbeddedBroker
from rules import load
with EmbeddedBroker() as broker:
    topics.publish_rules(broker.bootstrap, "", load.default().canonical(), time.time_ns() // 1000)
    print(broker.bootstrap, broker.log_id, flush=True)
    sys.stdin.read()
"""


def test_a_broker_that_is_away_is_told_commands_are_refused_and_all_goes_on_when_it_is_back(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _BROKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as broker:
        bootstrap, log_id = broker.stdout.readline().split()

        async def go(console):
            async with alarm_plane(bootstrap) as say:
                await say(an_alarm("a", 1))
                browser = Listening(console.base)
                await browser.until(
                    lambda told: (
                        is_alarm("a")(told) or any(a["alarm_id"] == "a" for a in told.data.get("alarms", ()))
                    )
                )
                os.kill(broker.pid, signal.SIGSTOP)
                body = {"command_id": "c", "action": "acknowledge", "alarm_id": "a", "actor": "x"}
                answer = await asyncio.to_thread(
                    httpx.post, f"{console.base}/api/commands", json=body, timeout=20
                )
                assert answer.status_code == 503
                assert "same command_id" in answer.json()["detail"]

                def bad(told):
                    return told.event == "health" and told.data["level"] == "bad"

                away = await browser.until(bad)
                assert {p["id"] for p in away.data["parts"] if p["level"] == "bad"} >= {"broker", "judge"}
                assert (await console.ask("/ready")).status_code == 503
                assert len((await console.ask("/api/alarms")).json()["alarms"]) == 1, (
                    "what is known is served"
                )
                os.kill(broker.pid, signal.SIGCONT)
                await browser.until(
                    lambda told: (
                        told.event == "health"
                        and {p["id"]: p["level"] for p in told.data["parts"]}["broker"] == "ok"
                    )
                )
                await say(an_alarm("b", 2))
                await browser.until(is_alarm("b"))

        try:
            with Console(tmp_path, bootstrap, log_id) as console:
                console.wait_for("/ready")
                asyncio.run(go(console))
        finally:
            os.kill(broker.pid, signal.SIGCONT)
            broker.stdin.close()
            broker.wait(10)


def test_it_ends_within_two_seconds_with_streams_open_and_when_its_starter_is_gone(broker, tmp_path):
    for end in ("signal", "starter"):
        with Console(tmp_path, broker.bootstrap, broker.log_id) as console:
            console.wait_for("/ready")
            opened = socket.create_connection(("127.0.0.1", console.port))
            opened.sendall(b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert opened.recv(100)
            began = time.monotonic()
            if end == "signal":
                console.process.send_signal(signal.SIGTERM)
            else:
                console.process.stdin.close()
            console.process.wait(10)
            assert time.monotonic() - began < 2, console.log()
            opened.close()
            assert "Traceback" not in console.log()


def test_a_taken_port_is_told_in_one_line(broker, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        console = Console(tmp_path, broker.bootstrap, broker.log_id, port=taken.getsockname()[1])
        assert console.process.wait(20) == 2
        said = console.log().splitlines()
        console.__exit__()
    assert len(said) == 1
    assert "Address already in use" in said[0]
    assert "CITYWATCH_CONSOLE__PORT" in said[0]
