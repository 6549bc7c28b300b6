"""`citywatch erase`: what is kept of a person among the rejects is overwritten; where else a person may be named is told."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import TYPE_CHECKING, Any

from commands.output import UsageError, option_json, print_json, table, teach, tell
from commands.reach import ask
from sinks.open import store_name
from sinks.query import format_time
from sources.tokens import KEY_FILE, load_tokens

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from settings import Settings
    from sinks.contract import Record, Store

ABOUT = """\
A person asks to be forgotten. No event that is kept names one: what is personal is a token, on restricted topics alone,
and no token reaches the store. A record that was refused is kept as it came, and may hold anything: this finds those,
by id, or by a text in their bytes (its token, too, where the key is there), and overwrites bytes, key and detail. Place,
reason and size stay, so that the ledger still counts them.

Without --yes it only says what it would do. Operators' names and notes in the history of alarms say who did what: they
are counted where they hold the text, and left. The topics forget by age (docs/running.md): within 7 days a rewind or a
restore of the store brings a reject back; then erase again, and do so in backups.
Exit code 1 when something that holds the text is left."""

EXAMPLES = """\
  citywatch erase --text 'Trần Thị Bình'
  citywatch erase --text - --yes < name.txt          a name that is in no shell's history
  citywatch erase ID ID --yes"""

LEFT = ("alarm", "alarm_event")


def add(parser: argparse.ArgumentParser) -> None:
    teach(parser, ABOUT, EXAMPLES)
    parser.add_argument("ids", nargs="*", metavar="ID", help="of rejects; `citywatch rejected list` has them")
    parser.add_argument("--text", metavar="TEXT", help="rejects that hold it; -: read it from stdin")
    parser.add_argument("--yes", action="store_true", help="do it; what is erased cannot be brought back")
    option_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    text = sys.stdin.read().strip() if args.text == "-" else args.text
    if not (args.ids or text):
        raise UsageError("say which: ids of rejects, or --text with what identifies the person")
    forms = _forms(text, settings) if text else []

    async def answer(store: Store) -> tuple[list[Record], dict[str, int]]:
        found = [record for id_ in args.ids for record in await store.kept("rejected", id_=id_)]
        if forms:
            found += [r for r in await store.kept("rejected") if _holds(r, forms) and r.id not in args.ids]
        left = {kind: await _count(store, kind, forms) for kind in LEFT if forms}
        return found, left

    found, left = ask(settings, answer)
    if unknown := set(args.ids) - {record.id for record in found}:
        raise UsageError(f"there is no reject {min(unknown)}; `citywatch rejected list` has their ids")
    if args.yes and found:
        from sinks.erase import erase  # noqa: PLC0415 - finding needs none of it

        asyncio.run(erase(settings, found))
    _say(args, settings, found, left)
    return 1 if any(left.values()) or (found and not args.yes) else 0


def _say(args: argparse.Namespace, settings: Settings, found: list[Record], left: dict[str, int]) -> None:
    if args.json:
        print_json({"erased" if args.yes else "found": [record.id for record in found], "left": left})
    elif found:
        rows = [(format_time(r.time), r.body["topic"], r.body["length"], r.id) for r in found]
        print(table(("time", "topic", "bytes", "id"), rows))
    what = "overwritten" if args.yes else "would be overwritten; --yes does it"
    tell(f"{len(found):,} rejects in {store_name(settings)} {what}")
    for kind, count in left.items():
        if count:
            tell(f"{count:,} records of the kind {kind} hold the text and are left: they say who did what")


def _forms(text: str, settings: Settings) -> list[bytes]:
    """The text as it may stand in bytes: as it is, as JSON escapes it, and as the token of who is called so."""
    forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    if (settings.data.dir / KEY_FILE).exists():  # no key is made only to look for what none was made with
        forms.add(load_tokens(settings.data.dir).token(text))
    return [form.encode() for form in sorted(forms)]


def _holds(record: Record, forms: Sequence[bytes]) -> bool:
    body: dict[str, Any] = record.body
    said = [base64.b64decode(body["bytes"]), base64.b64decode(body.get("key") or ""), body["detail"].encode()]
    return any(form in part for form in forms for part in said)


async def _count(store: Store, kind: Any, forms: Sequence[bytes]) -> int:
    found = (json.dumps(record.body, ensure_ascii=False).encode() for record in await store.kept(kind))
    return sum(any(form in said for form in forms) for said in found)
