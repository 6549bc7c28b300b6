"""A worker of another version beside this one, in one group: a rolling upgrade and its rollback change no alarm."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from outage_world import ROLES, ROOT, Feed, Workers, begin, faults, finish, until
from real_kafka import running

from bus import clients
from models.catalogue import ALARM_EVENT

pytestmark = pytest.mark.slow

#: The next version: its checkpoints are of another format, and it reads no others.
NEXT = """
import sys
import rules.judge, rules.lifecycle, rules.wide
rules.judge.FORMAT += 1
rules.lifecycle.FORMAT += 1
rules.wide.FORMAT += 1
import cli
sys.exit(cli.main(["worker", "--role", sys.argv[1]]))
"""


@pytest.fixture
def kafka():
    with running() as broker:
        begin(broker.bootstrap)
        yield broker


def upgraded(workers: Workers, name: str) -> None:
    """Start one of the next version, as `judge-next` beside `judge`."""
    with (workers.logs / f"{name}.log").open("ab") as log:
        workers.running[name] = subprocess.Popen(
            [sys.executable, "-c", NEXT, name.partition("-")[0]], cwd=ROOT, env=workers.environ(), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def test_two_versions_side_by_side_and_back_again_change_no_alarm(kafka, tmp_path):
    workers = Workers(kafka.bootstrap, tmp_path)
    feed = Feed(kafka.bootstrap, 100)

    def told() -> int:
        return clients.end_offsets(kafka.bootstrap, [(ALARM_EVENT, 0)])[ALARM_EVENT, 0]

    def go_on(what: str) -> None:
        before = told()
        until(lambda: told() > before + 20, what, 60, 0.5)
        time.sleep(2.5)  # for a checkpoint of each
        assert workers.ended() == {}, what

    try:
        workers.start()
        feed.start()
        go_on("the version of today works")
        # Rolling: one of the next version beside each of today's, then today's go, then they come back.
        for role in ROLES:
            upgraded(workers, f"{role}-next")
        go_on("both versions work in one group")
        for role in ROLES:
            assert workers.kill(role, 15) == 0
        go_on("the next version works alone")
        for role in ROLES:
            workers.start(role)
        go_on("both again")
        for role in ROLES:
            assert workers.kill(f"{role}-next", 15) == 0
        go_on("and it is taken back")
        feed.end()
        said = "".join(workers.log(name) for name in ("judge", "judge-next", "alarms", "alarms-next"))
        assert "cannot be used, rebuilding from the log" in said, "neither believes what the other saved"
        found = finish(workers)
        assert faults(found) == []
        print("\n" + "\n".join(map(str, found)))
    finally:
        feed.close()
        workers.close()
