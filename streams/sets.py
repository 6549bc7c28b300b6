"""The sets of rules that a log speaks of, fetched from where they are kept; a broker that is away is waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bus import clients, topics
from streams.metrics import log

if TYPE_CHECKING:
    from rules.spec import RuleSet

AGAIN_S = 1.0


async def rules_of(bootstrap: str, prefix: str, version: int) -> RuleSet | None:
    """A version of the rules, or None where no such set was ever published: whoever spoke of it, the one before stays in force.

    Raises EngineError for a set of a citywatch to come, which is not to be passed by.
    """
    while True:
        try:
            return await topics.rules_of(bootstrap, prefix, version)
        except topics.EngineError:
            raise
        except clients.UnreachableError as error:
            log.warning("rules version %d cannot be asked for, trying again: %s", version, error)
            await asyncio.sleep(AGAIN_S)
        except (LookupError, ValueError) as error:
            log.error("there are no rules version %d, those before stay in force: %s", version, error)
            return None
