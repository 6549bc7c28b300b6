"""`python -m bench.nab`: the baseline detector on the 22 files of the Numenta Anomaly Benchmark that we hold.

The scores are those of NAB v1.1 (Lavin, Ahmad: Evaluating Real-time Anomaly Detection Algorithms, arXiv 1510.03336): the first
15 % of a file, at most 750 rows, are not judged; a window of anomaly counts once, by its earliest alarm; an alarm elsewhere
costs, less if it comes soon after a window; 0 is silence, 100 perfection. Before any figure of ours, rows that others have
published must come out as they were published: three detectors are run here, all three profiles, two decimals. If one
differs, the exit code is 1; also if ours is not above the row that it is to beat, or alarms where nothing happens.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rules.baseline import ALARM, PARTS, Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parent.parent
PROFILES = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")
#: The published row that ours is to be above, and the files in which nothing happens.
TO_BEAT, QUIET = "randomCutForest", "artificialNoAnomaly"

PROBATION, MOST_PROBATION = 0.15, 750
#: Alarms closer than this are one episode to an operator.
EPISODE_US = 3 * 3_600_000_000
WEEK_US = 7 * 86_400_000_000


# --- the input ----------------------------------------------------------------------------------------------------


class File(NamedTuple):
    """One series, and its windows as (first row, last row)."""

    name: str
    at: list[int]
    values: list[float]
    windows: list[tuple[int, int]]

    @property
    def probation(self) -> int:
        return min(math.floor(PROBATION * len(self.at)), MOST_PROBATION)


def folder() -> Path | None:
    """Where the recorded input lies: CITYWATCH_DATA or ../shared/data; None where there is none."""
    found = Path(os.environ.get("CITYWATCH_DATA") or ROOT.parent / "shared" / "data")
    return found if (found / "traffic" / "nab" / "labels").is_dir() else None


def micros(text: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def files(nab: Path) -> list[File]:
    labels = json.loads((nab / "labels" / "combined_windows.json").read_text())
    found = []
    for name in sorted(labels):
        place = nab / "data" / name
        if not place.exists():
            continue
        with place.open(newline="") as rows:
            pairs = [(micros(row["timestamp"]), float(row["value"])) for row in csv.DictReader(rows)]
        at = [t for t, _ in pairs]
        windows = [(at.index(micros(a)), at.index(micros(b))) for a, b in labels[name]]
        found.append(File(name, at, [v for _, v in pairs], windows))
    return found


# --- the scorer -----------------------------------------------------------------------------------------------------


def _sigmoid(x: float) -> float:
    """From +1 far before a window's end (x = -1 is its beginning) to -1 long after it (x in widths of the window)."""
    return -1.0 if x > 3 else 2.0 / (1.0 + math.exp(5.0 * x)) - 1.0


class Rows(NamedTuple):
    """What an alarm in each judged row is worth: `worth` as a hit of `window`, or, where that is -1, its price."""

    window: list[int]
    worth: list[float]
    first: int  # the first row that is judged


def rows_of(file: File) -> Rows:
    best = _sigmoid(-1.0)
    window, worth = [-1] * len(file.at), [-1.0] * len(file.at)
    edges = [*(a for a, _ in file.windows), len(file.at)]
    for n, (a, b) in enumerate(file.windows):
        width = b - a + 1
        for i in range(a, b + 1):
            window[i], worth[i] = n, _sigmoid(-(b - i + 1) / width) / best
        for i in range(b + 1, edges[n + 1]):
            worth[i] = _sigmoid((i - b) / (width - 1))
    return Rows(window, worth, file.probation)


class Costs(NamedTuple):
    hit: float
    false_alarm: float
    miss: float


def costs(nab: Path) -> dict[str, Costs]:
    told = json.loads((nab / "config" / "profiles.json").read_text())
    return {
        name: Costs(c["tpWeight"], c["fpWeight"], c["fnWeight"])
        for name, c in ((name, told[name]["CostMatrix"]) for name in PROFILES)
    }


class Scorer:
    """Scores of 0 to 100 over a set of files; what it is given are the scores of every row of every file."""

    def __init__(self, of: Sequence[File], prices: dict[str, Costs]) -> None:
        self.files, self.prices = list(of), prices
        self.rows = [rows_of(f) for f in of]
        self.windows = sum(len(f.windows) for f in of)

    def raw(self, scores: Sequence[Sequence[float]], threshold: float) -> tuple[float, float, int]:
        """(what the hits are worth, what the other alarms cost, windows missed) of all alarms at or above the threshold."""
        hits, false_, missed = 0.0, 0.0, 0
        for file, rows, given in zip(self.files, self.rows, scores, strict=True):
            best: dict[int, float] = {}
            for i in range(rows.first, len(given)):
                if given[i] >= threshold:
                    n = rows.window[i]
                    if n < 0:
                        false_ += rows.worth[i]
                    elif rows.worth[i] > best.get(n, -1.0):
                        best[n] = rows.worth[i]
            hits += sum(best.values())
            missed += len(file.windows) - len(best)
        return hits, false_, missed

    def _normal(self, price: Costs, hits: float, false_: float, missed: int) -> float:
        total = hits * price.hit + false_ * price.false_alarm - missed * price.miss
        silence = -self.windows * price.miss
        return 100 * (total - silence) / (self.windows * price.hit - silence)

    def at(self, scores: Sequence[Sequence[float]], threshold: float) -> dict[str, float]:
        """The score of each profile, at one threshold for all files."""
        raw = self.raw(scores, threshold)
        return {name: self._normal(price, *raw) for name, price in self.prices.items()}

    def best(self, scores: Sequence[Sequence[float]]) -> dict[str, tuple[float, float]]:
        """For each profile the best (score, threshold) that one threshold for all files can have."""
        judged = [
            (given[i], f, i)
            for f, (rows, given) in enumerate(zip(self.rows, scores, strict=True))
            for i in range(rows.first, len(given))
        ]
        judged.sort(reverse=True)
        hits, false_, missed = 0.0, 0.0, self.windows
        found = dict.fromkeys(self.prices, (0.0, math.inf))
        seen: dict[tuple[int, int], float] = {}
        for k, (score, f, i) in enumerate(judged):
            n, worth = self.rows[f].window[i], self.rows[f].worth[i]
            if n < 0:
                false_ += worth
            else:
                before = seen.get((f, n))
                if before is None:
                    missed -= 1
                    seen[f, n] = worth
                    hits += worth
                elif worth > before:
                    seen[f, n] = worth
                    hits += worth - before
            if k + 1 == len(judged) or judged[k + 1][0] != score:
                for name, price in self.prices.items():
                    total = self._normal(price, hits, false_, missed)
                    if total > found[name][0]:
                        found[name] = (total, score)
        return found

    def operator(self, scores: Sequence[Sequence[float]], threshold: float) -> dict[str, float]:
        """What somebody at a console sees: windows found, false episodes a series and week, how many episodes are true."""
        found, false_, true, weeks = 0, 0, 0, 0.0
        lags: list[float] = []
        for file, rows, given in zip(self.files, self.rows, scores, strict=True):
            hit: set[int] = set()
            weeks += (file.at[-1] - file.at[rows.first]) / WEEK_US
            for first, within in _episodes(file, rows, given, threshold):
                true += bool(within)
                false_ += not within
                for n in within - hit:
                    a, b = file.windows[n]
                    lags.append((max(first, a) - a) / (b - a + 1))
                hit |= within
            found += len(hit)
        return {
            "windows found": found,
            "of": self.windows,
            "false episodes": false_,
            "false episodes per series-week": false_ / weeks,
            "episode precision": true / (true + false_) if true + false_ else math.nan,
            "median lag, part of the window": sorted(lags)[len(lags) // 2] if lags else math.nan,
        }


def _episodes(
    file: File, rows: Rows, given: Sequence[float], threshold: float
) -> Iterator[tuple[int, set[int]]]:
    """(first row, the windows that it touches) of each episode."""
    first, last = -1, 0
    within: set[int] = set()
    for i in range(rows.first, len(given)):
        if given[i] < threshold:
            continue
        if first >= 0 and file.at[i] - last > EPISODE_US:
            yield first, within
            first, within = -1, set()
        first = i if first < 0 else first
        last = file.at[i]
        if rows.window[i] >= 0:
            within.add(rows.window[i])
    if first >= 0:
        yield first, within


# --- detectors whose scores others have published -----------------------------------------------------------------


def null(values: Sequence[float]) -> Iterator[float]:
    """Says nothing."""
    return (0.5 for _ in values)


def windowed_gaussian(values: Sequence[float]) -> Iterator[float]:
    """1 - Q(|x - m| / s) by the mean and deviation of the last 6,400 values, which move on by 100 at a time."""
    window: list[float] = []
    step: list[float] = []
    mean, dev = 0.0, 1.0
    total = squares = 0.0
    for x in values:
        # The published rows are of scores that had been written with 12 digits: what is nearly 1 became 1.
        yield float(f"{1 - 0.5 * math.erfc(abs(x - mean) / dev / math.sqrt(2)):.12g}") if window else 0.0
        if len(window) < 6400:
            window.append(x)
            delta = x - (total / (len(window) - 1) if len(window) > 1 else x)
            total += x
            squares += delta * (x - total / len(window))
        else:
            step.append(x)
            if len(step) < 100:
                continue
            window, step = window[100:] + step, []
            total = math.fsum(window)
            squares = math.fsum((v - total / 6400) ** 2 for v in window)
        mean = total / len(window)
        dev = math.sqrt(max(squares, 0.0) / len(window)) or 0.000001


def relative_entropy(values: Sequence[float]) -> Iterator[float]:
    """Wang et al., Statistical Techniques for Online Anomaly Detection in Data Centers (IM 2011).

    The last 52 values in 5 bins between the least and the greatest of the file (which a live detector cannot know) are
    compared with every distribution met before; one that agrees with none at 1 % is an anomaly, once. The rows published
    by NAB have the two highest of six rounded values in one bin, so this has too.
    """
    width, limit = 52, 13.276704135987622  # the chi-squared quantile of 0.99 with 4 degrees of freedom
    low, span = min(values), (max(values) - min(values)) / 5
    known: list[tuple[int, ...]] = []
    agreed: dict[tuple[int, ...], tuple[int, float, int]] = {}  # of counts: (nearest, how far, of how many)
    bins: deque[int] = deque()
    counts = [0] * 5
    for x in values:
        if span == 0:
            yield 0.0
            continue
        bins.append(min(math.ceil((x - low) / span), 4))
        counts[bins[-1]] += 1
        if len(bins) > width:
            counts[bins.popleft()] -= 1
        if len(bins) < width:
            yield 0.0
            continue
        key = tuple(counts)
        near, least, upto = agreed.get(key, (-1, math.inf, 0))
        for k in range(upto, len(known)):
            entropy = 2 * _divergence(key, known[k])
            if entropy < limit and entropy < least:
                near, least = k, entropy
        agreed[key] = (near, least, len(known))
        yield 1.0 if near < 0 and known else 0.0
        if near < 0:
            known.append(key)


def _divergence(p: Sequence[int], q: Sequence[int]) -> float:
    """Sum of p log(p / q), infinite where q says never."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        if a:
            if not b:
                return math.inf
            total += a * math.log(a / b)
    return total


REFERENCES: dict[str, Callable[[Sequence[float]], Iterator[float]]] = {
    "null": null,
    "windowedGaussian": windowed_gaussian,
    "relativeEntropy": relative_entropy,
}


# --- the figures ----------------------------------------------------------------------------------------------------


def thresholds(nab: Path) -> dict[tuple[str, str], float]:
    """The threshold by which each row was published: NAB's choice, the best for its 58 files."""
    with (nab / "results" / "published_scores_per_file.csv").open(newline="") as rows:
        return {(r["Detector"], r["Profile"]): float(r["Threshold"]) for r in csv.DictReader(rows)}


def reproduced(nab: Path, scorer: Scorer, published: dict[str, Any]) -> list[dict[str, Any]]:
    """Each reference by our scorer beside what was published of it on these files."""
    limits = thresholds(nab)
    found = []
    for name, detect in REFERENCES.items():
        scores = [list(detect(f.values)) for f in scorer.files]
        for profile in PROFILES:
            ours = scorer.at(scores, limits[name, profile])[profile]
            theirs = published[profile]["all"][name]
            equal = f"{ours:.2f}" == f"{theirs:.2f}"
            found.append({"row": name, "profile": profile, "published": theirs, "ours": ours, "equal": equal})
    return found


def baseline(files_: Sequence[File]) -> list[list[float]]:
    """One detector with one set of parameters for all files; it sees a value once, in the order of the file."""
    step, scores = Baseline().step, []
    for file in files_:
        state, told = Baseline().start(), []
        for at, value in zip(file.at, file.values, strict=True):
            state, score, _ = step(state, at, value)
            told.append(score or 0.0)
        scores.append(told)
    return scores


def cost_us(files_: Sequence[File], rounds: int = 3) -> float:
    """Microseconds of CPU a value: the least of some rounds, as others use this machine too."""
    values = sum(len(f.at) for f in files_)
    least = math.inf
    for _ in range(rounds):
        begin = time.process_time()
        baseline(files_)
        least = min(least, time.process_time() - begin)
    return least / values * 1e6


def alarmed(file: File, limit: float) -> dict[str, int]:
    """Which part was the strangest at the alarms of a file, and how often."""
    detector, counts = Baseline(), dict.fromkeys(PARTS, 0)
    state = detector.start()
    for row, (at, value) in enumerate(zip(file.at, file.values, strict=True)):
        state, score, parts = detector.step(state, at, value)
        if row >= file.probation and score is not None and score >= limit:
            counts[PARTS[parts.index(max(parts))]] += 1
    return {part: n for part, n in counts.items() if n}


def figures(nab: Path, oracle: dict[str, Any]) -> dict[str, Any]:
    found = files(nab)
    scorer = Scorer(found, costs(nab))
    published = oracle["published_subset_scores"]
    scores = baseline(found)
    quiet = [k for k, f in enumerate(found) if f.name.startswith(QUIET)]
    groups = sorted({f.name.partition("/")[0] for f in found if f.windows})
    folders = {}
    for group in groups:
        of = [k for k, f in enumerate(found) if f.name.startswith(group + "/")]
        folders[group] = Scorer([found[k] for k in of], scorer.prices).at([scores[k] for k in of], ALARM)
    return {
        "files": len(found),
        "rows": sum(len(f.at) for f in found),
        "windows": scorer.windows,
        "as told": (len(found), sum(len(f.at) for f in found), scorer.windows)
        == (len(oracle["files"]), oracle["total_rows"], oracle["total_windows"]),
        "reproduced": reproduced(nab, scorer, published),
        "published": {p: published[p]["all"] for p in PROFILES},
        "ours": scorer.at(scores, ALARM),
        "ours, best threshold": scorer.best(scores),
        "folders": folders,
        "quiet alarms": sum(s >= ALARM for k in quiet for s in scores[k]),
        "quiet highest": max(max(scores[k]) for k in quiet),
        "operator": scorer.operator(scores, ALARM),
        "us a value": cost_us(found),
        "alarms": {f.name: alarmed(f, ALARM) for f in found},
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        f"NAB, {found['files']} files, {found['rows']:,} rows, {found['windows']} windows",
        "",
        f"{'reproduced':<22}{'profile':<22}{'published':>10}{'here':>10}",
    ]
    lines += [
        f"{r['row']:<22}{r['profile']:<22}{r['published']:>10.2f}{r['ours']:>10.2f}"
        f"{'' if r['equal'] else '  DIFFERS'}"
        for r in found["reproduced"]
    ]
    lines += ["", f"{'detector':<30}" + "".join(f"{p.removeprefix('reward_'):>14}" for p in PROFILES)]
    ranked = sorted(found["published"][PROFILES[0]], key=lambda d: -found["published"][PROFILES[0]][d])
    rows = {d: [found["published"][p][d] for p in PROFILES] for d in ranked}
    rows[f"OURS, alarm at {ALARM}"] = [found["ours"][p] for p in PROFILES]
    for name, row in sorted(rows.items(), key=lambda r: -r[1][0]):
        lines.append(f"{name:<30}" + "".join(f"{x:>14.2f}" for x in row))
    best = found["ours, best threshold"]
    lines += [
        f"{'ours, best threshold here':<30}" + "".join(f"{best[p][0]:>14.2f}" for p in PROFILES),
        f"{'  that threshold':<30}" + "".join(f"{best[p][1]:>14.3f}" for p in PROFILES),
        "",
    ]
    for group, scores in found["folders"].items():
        lines.append(f"{'ours, ' + group:<30}" + "".join(f"{scores[p]:>14.2f}" for p in PROFILES))
    lines += ["", f"alarms in {QUIET}: {found['quiet alarms']} (highest score {found['quiet highest']:.2f})"]
    lines += [f"{name}: {x:.3f}".removesuffix(".000") for name, x in found["operator"].items()]
    lines += [f"CPU a value: {found['us a value']:.1f} us", "", "alarms, by what was the strangest:"]
    lines += [
        f"  {name:<60}{', '.join(f'{part} {n}' for part, n in parts.items()) or '-'}"
        for name, parts in found["alarms"].items()
    ]
    return "\n".join(lines)


def faults(found: dict[str, Any]) -> list[str]:
    """What must not be; nothing is said of cost, which is the machine's too."""
    told = [f"{r['row']} {r['profile']} is not as published" for r in found["reproduced"] if not r["equal"]]
    if not found["as told"]:
        told.append("files, rows or windows are not those of ORACLES.json")
    told += [
        f"{p}: not above {TO_BEAT}" for p in PROFILES if found["ours"][p] <= found["published"][p][TO_BEAT]
    ]
    if found["quiet alarms"]:
        told.append(f"{found['quiet alarms']} alarms in {QUIET}")
    return told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.nab", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    wanted = parser.parse_args()
    data = folder()
    if data is None:
        print("skipped: there is no traffic/nab in CITYWATCH_DATA or ../shared/data")
        return 0
    oracle = json.loads((data / "ORACLES.json").read_text())["nab"]
    found = figures(data / "traffic" / "nab", oracle)
    print(json.dumps(found, indent=1) if wanted.json else table(found))
    wrong = faults(found)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
