"""InfluxDB keeps the contract, and what only a real server shows."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

pytest.register_assert_rewrite("store_contract")

from real_influx import InfluxMissingError, RealInflux  # noqa: E402
from store_contract import SECOND, T0, StoreContract, flow, incident  # noqa: E402

from sinks.contract import Point, Query, Record, Rejected, StoreError, Unavailable  # noqa: E402
from sinks.influx import InfluxStore  # noqa: E402

pytestmark = pytest.mark.slow

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server():
    try:
        found = RealInflux()
    except InfluxMissingError as missing:
        pytest.fail(str(missing))  # a suite that skipped it would say that all is well
    yield found
    found.close()


class TestTheContract(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.server = server
        self.bucket = None
        yield
        if self.bucket:
            server.delete_bucket(self.bucket)

    def fresh(self):
        if self.bucket:
            self.server.delete_bucket(self.bucket)
        name = f"b{next(_numbers)}"
        self.bucket = self.server.make_bucket(name)
        return InfluxStore(self.server.address(name))
