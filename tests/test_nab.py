"""The baseline on recorded series: what others published comes out first, then ours is above the row it is to beat."""

from __future__ import annotations

import pytest
from real import data, oracle

from bench import nab


@pytest.mark.slow
def test_published_rows_come_out_and_ours_is_above_random_cut_forest_without_an_alarm_where_nothing_happens():
    found = nab.figures(data("traffic", "nab"), oracle("nab"))
    assert nab.faults(found) == []
    assert {row["row"] for row in found["reproduced"] if row["equal"]} >= {
        "windowedGaussian",
        "relativeEntropy",
    }
    assert found["quiet alarms"] == 0


@pytest.mark.slow
def test_the_scorer_gives_silence_nothing_and_an_alarm_in_every_window_much():
    files = nab.files(data("traffic", "nab"))
    scorer = nab.Scorer(files, nab.costs(data("traffic", "nab")))
    silent = [[0.0] * len(f.at) for f in files]
    perfect = [[0.0] * len(f.at) for f in files]
    for scores, file in zip(perfect, files, strict=True):
        for first, _ in file.windows:
            scores[first] = 1.0
    assert scorer.at(silent, 0.5) == dict.fromkeys(nab.PROFILES, 0.0)
    assert scorer.at(perfect, 0.5) == pytest.approx(dict.fromkeys(nab.PROFILES, 100.0))
