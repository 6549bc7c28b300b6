"""The least that can judge a rule test: the fold alone, one series after the other, nothing late."""

from models.alarm import PRIORITIES
from models.base import micros
from rules.expecting import START
from rules.program import compile_program
from rules.spec import Interval
from rules.terms import values_of


def judge(rules, events, until):
    """Every rule of a set over events in order; timers act at their due time, before a sample of that moment."""
    event = rules.rules[0].event
    program, values = compile_program(rules, 0, event), values_of(event)
    states = {key: program.initial(key, START) for key in program.subjects}
    found = []

    def told(key, rule, episode):
        labels = tuple(zip(event.topic.key, key.split("/"), strict=True))
        return Interval(rule, labels, episode.start, episode.end, PRIORITIES[episode.rank], episode.peak)

    for n, e in enumerate(events):
        key, at, closed = e.topic.key_of(e), micros(e.observed_at), []
        sample = (at, e.event_id, "", n, 0, 0, values(e))
        before = program.expire(states.get(key, program.initial(key, None)), at, closed)
        states[key] = program.feed(before, sample, closed)
        found += [told(key, rule, episode) for rule, episode in closed if not episode.held]
    for key, before in states.items():
        closed = []
        after = program.expire(before, until, closed)
        found += [
            told(key, rule, episode) for rule, episode in (*closed, *program.open(after)) if not episode.held
        ]
    return found
