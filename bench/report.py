"""The bench's figures as a person reads them: medians over the rounds, and ratios pair by pair."""

from __future__ import annotations

from statistics import median
from typing import Any

#: What a ratio of ours to the same job without Faust must be at least, and what we want.
FLOOR, AIM = 0.6, 0.75


def ratios(rounds: list[dict[str, Any]], ours: str, bare: str) -> dict[str, float] | None:
    """Events a second of `ours` by those of `bare`, of each round's pair: the median, by CPU time and by the clock."""
    pairs = [(r[ours], r[bare]) for r in rounds if ours in r]
    if not pairs:
        return None
    return {
        by: median(b[key] / b["events"] / (o[key] / o["events"]) for o, b in pairs)
        for by, key in (("cpu", "cpu_s"), ("wall", "wall_s"))
    }


def table(found: dict[str, Any]) -> str:
    """All of it, in lines."""
    lines = [
        f"{found['events']:,} events of {found['sensors']:,} sensors; {len(found['rounds'])} rounds",
        "about 310 bytes each, 1 % bad, 1 % out of order, 4 partitions",
        f"broker: {found['broker']}; python {found['python']}, {found['cpus']} CPUs, each job on one of its own",
        "",
        f"{'job':<26}{'events/s':>10}{'us CPU/event':>14}{'events/CPU-s':>14}",
    ]
    for job in max((r.keys() for r in found["rounds"]), key=len):
        done = [r[job] for r in found["rounds"] if job in r]
        cpu = median(d["cpu_s"] / d["events"] for d in done) * 1e6
        wall = median(d["events"] / d["wall_s"] for d in done)
        lines.append(f"{job:<26}{wall:>10,.0f}{cpu:>14.1f}{1e6 / cpu:>14,.0f}")
    lines += [
        "",
        f"ours by the same job on bare aiokafka (floor {FLOOR}, aim {AIM}; CPU time is the steady one)",
    ]
    for name, ratio in found["ratios"].items():
        if ratio is not None:
            lines.append(f"  {name:<40} {ratio['cpu']:.2f} by CPU, {ratio['wall']:.2f} by the clock")
    lines += [
        "  bare has no checkpoints and no commits; ours has them where it says so (the store commits always)",
        "",
    ]
    lines += [f"{name:<40}{value:>12,.1f}" for name, value in found["core"].items()]
    return "\n".join(lines)
