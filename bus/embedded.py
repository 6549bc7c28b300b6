"""A Kafka broker inside this process, for a machine with nothing but Python."""

from __future__ import annotations

import ctypes
import time
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import cimpl

from bus.topics import partitions

if TYPE_CHECKING:
    from collections.abc import Mapping

_VOID, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t

#: What we call in librdkafka: (result, arguments). Its structures are opaque to us.
_CALLS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rd_kafka_conf_new": (_VOID, ()),
    "rd_kafka_conf_set": (_INT, (_VOID, _TEXT, _TEXT, _TEXT, _SIZE)),
    "rd_kafka_new": (_VOID, (_INT, _VOID, _TEXT, _SIZE)),
    "rd_kafka_destroy": (None, (_VOID,)),
    "rd_kafka_err2str": (_TEXT, (_INT,)),
    "rd_kafka_mock_cluster_new": (_VOID, (_VOID, _INT)),
    "rd_kafka_mock_cluster_destroy": (None, (_VOID,)),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, (_VOID,)),
    "rd_kafka_mock_topic_create": (_INT, (_VOID, _TEXT, _INT, _INT)),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (_VOID, ctypes.c_int32)),
}

_PRODUCER = 0
#: Quiet: librdkafka would warn that our handle has no servers, which is the point of it.
_CONF = {b"log_level": b"2"}
#: A first member waits this long for the others to come; the mock's 3 s are felt at every start.
_REBALANCE_DELAY_MS = 200
#: The broker's thread misses a request that comes while it still answers the last, and looks again after 1 s:
#: 20 topics in a row took 1 to 4 s, with this pause 0.04 s.
_BREATH_S = 0.002


class EmbeddedUnavailableError(RuntimeError):
    """The embedded broker cannot run here; the text says why and what to do instead."""


@cache
def _library() -> Any:
    """The librdkafka that confluent-kafka brings: loading its extension also finds what the extension links to."""
    try:
        library = ctypes.CDLL(cimpl.__file__)
        for call, (result, arguments) in _CALLS.items():
            function = getattr(library, call)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EmbeddedUnavailableError(
            f"the embedded broker needs the librdkafka of confluent-kafka's wheels ({error}); "
            "install confluent-kafka as pyproject.toml pins it, or set CITYWATCH_KAFKA__BOOTSTRAP to a running Kafka"
        ) from None
    return library


class EmbeddedBroker:
    """librdkafka's mock cluster of one broker on a free loopback port; nothing survives `close`.

    Every topic of `topics` (name to partitions; by default the whole catalogue) exists when the constructor
    returns. Other processes may connect to `bootstrap`; they must be told `log_id`, which is fresh for every
    broker, since offsets of one broker mean nothing in the next.

    What it is not (measured with librdkafka 2.16):

    - A partition keeps about 5 MiB or 100,000 batches, then the oldest go, whatever the topic's policy:
      compacted topics lose keys too. A reader that fell behind is told `OffsetOutOfRange` and finds the new
      beginning with `begin_offsets`; a batch larger than 5 MiB is acknowledged and gone at once.
    - CreateTime only: a record keeps the stamp its producer gave it. The stamp in the answer to a send is a constant.
    - One batch per partition and fetch, so small batches make slow readers. An idle fetch waits its whole time.
    - No CreateTopics, DescribeConfigs, ListGroups. An unknown topic is created with 4 partitions when asked for.
    - A group's follower that syncs after its leader loses its share and is answered InvalidRequest (two bare aiokafka
      processes: 7 of 10 starts). A leader that waits 0.1 s in its assignor lets the followers be first (0 of 10).
    - A member that was killed stays until its session ends, and after one has left the next waits for the session
      timeout less 1 s: keep session timeouts short.
    - Its cluster id is no log id: it is an address in memory.
    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self.log_id = str(uuid.uuid4())
        self._rdkafka = _library()
        self._handle, self._cluster = _VOID(), _VOID()
        error = ctypes.create_string_buffer(512)
        conf = self._rdkafka.rd_kafka_conf_new()
        for key, value in _CONF.items():
            self._rdkafka.rd_kafka_conf_set(conf, key, value, error, len(error))
        self._handle = _VOID(self._rdkafka.rd_kafka_new(_PRODUCER, conf, error, len(error)))
        if not self._handle:
            raise EmbeddedUnavailableError(f"librdkafka: {error.value.decode()}")
        self._cluster = _VOID(self._rdkafka.rd_kafka_mock_cluster_new(self._handle, 1))
        if not self._cluster:
            self.close()
            raise EmbeddedUnavailableError("librdkafka could not listen on a loopback port")
        self._rdkafka.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, _REBALANCE_DELAY_MS)
        self.bootstrap: str = self._rdkafka.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        for topic, count in (partitions() if topics is None else topics).items():
            self.create(topic, count)

    def create(self, topic: str, count: int) -> None:
        """Create a topic; ValueError if it is there already or its name is refused."""
        time.sleep(_BREATH_S)
        code = self._rdkafka.rd_kafka_mock_topic_create(self._cluster, topic.encode(), count, 1)
        if code:
            raise ValueError(f"{topic}: {self._rdkafka.rd_kafka_err2str(code).decode()}")

    def close(self) -> None:
        """Stop the broker and forget everything. Clients see a closed connection. May be called twice."""
        cluster, self._cluster = self._cluster, _VOID()
        handle, self._handle = self._handle, _VOID()
        if cluster:
            self._rdkafka.rd_kafka_mock_cluster_destroy(cluster)
        if handle:
            self._rdkafka.rd_kafka_destroy(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
