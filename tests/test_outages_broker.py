"""The broker is killed, hangs, is away while workers start and stop: nothing is lost, and who waited goes on at once."""

from __future__ import annotations

import os
import signal
import time

import pytest
from outage_world import FLOW, Ends, Feed, Workers, begin, faults, finish, until
from real_kafka import running

from bus import clients
from models.catalogue import ALARM_EVENT, ALARM_INPUT

pytestmark = pytest.mark.slow

#: From the moment when the broker answers again until there is new output of a worker. Measured: 0.3 to 1.5 s.
BACK_S = 10.0
#: Who starts anew waits until the broker no longer expects the one before, who could not say that it leaves.
SESSION_S = 6.0
#: And no worker may take longer to stop, whoever is away.
STOP_S = 8.0


@pytest.fixture(scope="module")
def kafka():
    with running() as broker:
        begin(broker.bootstrap)
        yield broker


def recovered(bootstrap: str) -> dict[str, float]:
    """Seconds until the feed, the judge and the alarm plane have each written something new."""
    began, found = time.monotonic(), {}
    ends = Ends(
        bootstrap, (ALARM_INPUT, 0), (ALARM_EVENT, 0), *((FLOW.name, n) for n in range(FLOW.partitions))
    )
    before = ends()

    def look() -> bool:
        now, at = ends(), time.monotonic() - began
        grown = {place[0] for place, end in now.items() if end > before[place]}
        for name, topic in (("feed", FLOW.name), ("judge", ALARM_INPUT), ("alarms", ALARM_EVENT)):
            if topic in grown:
                found.setdefault(name, at)
        return len(found) == 3

    until(look, "new output of everybody", 60, 0.05)
    ends.close()
    return found


def test_a_broker_that_is_killed_or_hangs_costs_nothing_but_the_time_it_is_away(kafka, tmp_path):
    """One city through all of it, and at the end the truth of its log."""
    workers = Workers(kafka.bootstrap, tmp_path)
    feed = Feed(kafka.bootstrap, 100)
    try:
        workers.start()
        feed.start()
        until(lambda: clients.end_offsets(kafka.bootstrap, [(ALARM_EVENT, 0)])[ALARM_EVENT, 0], "alarms", 60)

        took = {}
        kafka.kill()
        time.sleep(45)  # longer than aiokafka keeps what it could not send, and than it waits for an answer
        kafka.start()
        took["killed"] = recovered(kafka.bootstrap)
        assert workers.ended() == {}, "who waits need not be started again"

        broker = kafka.servers[0].process.pid
        os.kill(broker, signal.SIGSTOP)
        time.sleep(10)  # longer than a session
        os.kill(broker, signal.SIGCONT)
        took["hung"] = recovered(kafka.bootstrap)
        assert workers.ended() == {}

        # Killed in the middle of it, told to stop while it is away, and started before it is back.
        kafka.kill()
        time.sleep(1)
        began = time.monotonic()
        codes = {}
        for name in ("judge", "alarms", "store"):
            workers.running[name].send_signal(signal.SIGTERM)
        for name in ("judge", "alarms", "store"):
            codes[name] = workers.running.pop(name).wait(60)
        stopped = time.monotonic() - began
        assert codes == {"judge": 0, "alarms": 0, "store": 0}
        assert stopped < STOP_S, "nobody waits for a broker to be allowed to stop"
        workers.start()
        until(lambda: "waiting: no Kafka answers at" in workers.log("judge"), "it says for what it waits", 30)
        assert workers.ended() == {}, "a worker waits for a broker that is away"
        kafka.start()
        took["started before it"] = recovered(kafka.bootstrap)

        for what, seconds in took.items():
            within = BACK_S + (SESSION_S if what == "started before it" else 0)
            assert max(seconds.values()) < within, (what, seconds)
        print(f"\nstop {stopped:.1f} s; back after " + "; ".join(f"{w}: {s}" for w, s in took.items()))
        noise = {name: len(workers.log(name).splitlines()) for name in ("judge", "store", "alarms")}
        print(noise)
        assert max(noise.values()) < 100, (
            "an outage is said, and said again every minute, not at every attempt"
        )

        fed = feed.end()
        found = finish(workers)
        assert faults(found) == []
        assert next(v for v in found if v.what == "points").expected == fed
    finally:
        workers.close()
        feed.close()
