"""A diary finds the absences of a span."""

from datetime import UTC, timedelta

from hypothesis import given
from hypothesis import strategies as st

from calsync.ical.occurrences import Occurrence
from calsync.schedule.diary import Diary
from support.samples import utc

spans = st.tuples(st.integers(0, 500), st.integers(0, 200), st.booleans())


@given(st.lists(spans, max_size=12), st.integers(0, 700), st.integers(1, 50))
def test_a_diary_finds_every_absence_that_overlaps_a_span(absences, first, hours):
    def instant(hour, floats=False):
        return (utc(2026, 12, 1) + timedelta(hours=hour)).replace(tzinfo=None if floats else UTC)

    written = [
        Occurrence(instant(start, floats), instant(start + length, floats), str(n), "away")
        for n, (start, length, floats) in enumerate(absences)
    ]
    start, end = instant(first), instant(first + hours)
    diary = Diary((one, None) for one in written)
    for observer in ("Pacific/Kiritimati", "UTC", "Pacific/Pago_Pago"):

        def overlap(one, observer=observer):
            begin, finish = one.span(observer)
            return begin < end and start < finish

        assert {one.uid for one, _ in diary.near(start, end) if overlap(one)} == {
            one.uid for one in written if overlap(one)
        }
