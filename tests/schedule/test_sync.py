"""An agenda that took in changes one by one is the one of somebody who has only just looked."""

import sqlite3
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calsync.core.planning import plan
from calsync.schedule.conflicts import _inherent, check
from calsync.schedule.feed import render
from support.samples import PAIR, ics
from support.town import CONFIG, FILTERS, NOW, WEEKS, Town, changes


@settings(max_examples=15)
@given(st.lists(changes, min_size=1, max_size=4), st.sampled_from(FILTERS))
def test_a_feed_of_an_agenda_that_took_in_changes_is_that_of_one_read_anew(tmp_path_factory, story, filters):
    town = Town(tmp_path_factory.mktemp("town") / "deployments.db")
    for change in story:
        followed, fresh = render(town.apply(change), town.now, filters), render(town.anew(), town.now, filters)
        assert (followed.body, followed.etag, followed.expires) == (fresh.body, fresh.etag, fresh.expires)
    town.calendar.close()


@settings(max_examples=20)
@given(st.lists(changes, min_size=1, max_size=4))
def test_a_check_in_a_followed_agenda_is_the_check_in_one_read_anew(tmp_path_factory, story):
    town = Town(tmp_path_factory.mktemp("town") / "deployments.db")
    for change in story:
        agenda, anew = town.apply(change), town.anew()
        for week in WEEKS:
            if week.monday <= town.now.date() + timedelta(days=2):
                continue
            planned = plan(CONFIG, PAIR, week, NOW)
            found, plain = (check(one, planned.slots, planned.conductors) for one in (agenda, anew))
            assert sorted(map(repr, found)) == sorted(map(repr, plain))
            for slot in planned.slots:
                window = next(one for one in CONFIG.train_windows if one.name == slot.window)
                arguments = (slot, window, tuple(planned.conductors(slot)))
                assert _inherent(*arguments, hours_block=False, clocks_block=False) == _inherent.__wrapped__(
                    *arguments, hours_block=False, clocks_block=False
                )
    town.calendar.close()


past = st.integers(1, 3000).map(lambda days: NOW - timedelta(days=days))
RULES = ["", "RRULE:FREQ=WEEKLY;COUNT=4", "RRULE:FREQ=WEEKLY;COUNT=3;INTERVAL=2;BYDAY=MO,FR", "RRULE:FREQ=YEARLY"]


@pytest.mark.heavy
@settings(max_examples=40)
@given(st.lists(st.tuples(past, st.sampled_from(RULES)), max_size=8), st.integers(0, 200))
def test_history_that_was_left_out_changes_nothing_that_anybody_sees(tmp_path_factory, events, later):
    file = tmp_path_factory.mktemp("town") / "deployments.db"
    town = Town(file)
    for n, (start, rule) in zip(count(), events):
        lines = [f"DTSTART:{start:%Y%m%dT%H%M%SZ}", "DURATION:PT1H", *([rule] if rule else [])]
        town.calendar.put(f"{n}.ics", ics(*lines, uid=f"{n}"), etag=None)
    town.now += timedelta(days=later)
    whole, brief = town.anew(), town.anew()  # the first one told the calendar what is over
    assert len(brief.objects) <= len(whole.objects)
    assert not brief.ended
    assert render(whole, town.now).body == render(brief, town.now).body
    assert whole.quarters == brief.quarters
    # Somebody who knows nothing of this makes one of them new.
    if events:
        text = ics(f"DTSTART:{town.now:%Y%m%dT%H%M%SZ}", "DURATION:PT1H", "SUMMARY:again", uid="0")
        with sqlite3.connect(file) as other:
            other.execute("UPDATE calendar SET revision = revision + 1")
            revision = "(SELECT revision FROM calendar)"
            other.execute(f"UPDATE resources SET ics = ?, revision = {revision} WHERE href = '0.ics'", [text])
        other.close()
        assert "again" in render(town.anew(), town.now).body.decode()
    town.calendar.close()
