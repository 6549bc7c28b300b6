"""A group in which one member has all partitions, and the others wait to take its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class OneHasAll(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka is untyped to us
    """Gives everything to the first member by id. What one process can do is not worth dividing."""

    name = "citywatch-one"
    version = 0

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        first = min(members)
        topics = members[first].subscription
        everything = [(t, sorted(cluster.partitions_for_topic(t) or ())) for t in sorted(topics)]
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, everything if member == first else [], b"")
            for member in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> Any:
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: Any) -> None:
        """There is nothing to remember."""
