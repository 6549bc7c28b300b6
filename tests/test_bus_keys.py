"""Our partition of a key is the one that Kafka and both clients choose."""

import aiokafka.partitioner
import kafka.partitioner
from hypothesis import given
from hypothesis import strategies as st

from models.keys import murmur2, partition_of

# From the Java client's own UtilsTest.testMurmur2, there as signed integers.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_the_vectors_of_the_java_client_hold():
    assert {key: murmur2(key) for key in JAVA} == {key: h & 0xFFFFFFFF for key, h in JAVA.items()}


@given(st.binary(max_size=60), st.integers(1, 50))
def test_both_clients_choose_the_same_partition(key, n):
    ours = partition_of(key, n)
    assert murmur2(key) == kafka.partitioner.murmur2(key)
    assert ours == aiokafka.partitioner.DefaultPartitioner()(key, list(range(n)), list(range(n)))
    assert 0 <= ours < n
