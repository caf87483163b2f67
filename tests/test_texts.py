"""What people write: one check for the command line and the API, and nothing that moves a terminal or ends a line."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from samples import EU, PAIR, US, configured
from test_cli import calendar, folder, run  # noqa: F401

from calsync.booking import absences
from calsync.booking.handoff import hand_off
from calsync.booking.reservations import reserve
from calsync.core.conductors import conductor
from calsync.core.errors import ConfigInvalid, Invalid
from calsync.core.text import SENTENCE, check_line, strip_controls
from calsync.notifications.destinations import Destinations
from calsync.notifications.updates import update
from calsync.schedule.check import ReservationRequest
from calsync.schemas.requests import Sentence

ODD = ["\x1b[31mred", "two\nlines", "two\rlines", "\x9b31m", "a\u2028b", "\u202egnp.exe", "\u2066x", "\x7f", "\x02bold"]


def is_taken(text):
    """Whether the API takes it."""
    try:
        TypeAdapter(Sentence).validate_python(text)
    except ValidationError:
        return False
    return True


@example("\x9b31m")
@example("a\u2028b")
@example("\u202egnp.exe")
@example("two\n")
@example("\ud800")
@given(st.text(min_size=1, max_size=20))
def test_the_check_and_the_pattern_of_the_api_agree(text):
    try:
        check_line("note", text, SENTENCE)
        sound = True
    except Invalid:
        sound = False
    assert sound == is_taken(text)


@given(st.text(max_size=30))
def test_what_is_shown_passes_the_check_line_by_line_and_lacks_no_visible_character(text):
    for line in strip_controls(text).split("\n"):
        if line:
            check_line("note", line, SENTENCE)
    assert [char for char in text if char.isprintable()] == [char for char in strip_controls(text) if char.isprintable()]


def test_words_of_any_script_and_joined_emoji_are_lines():
    for text in ("naïve 火車", "عربي", "👩‍💻 deploys", "a" * SENTENCE):
        check_line("note", text, SENTENCE)
    with pytest.raises(Invalid, match="note has 501 characters; write between 1 and 500"):
        check_line("note", "a" * 501, SENTENCE)


@pytest.mark.parametrize("odd", ODD)
def test_names_versions_tickets_and_reasons_are_lines(sync, now, odd):
    config = configured()
    with pytest.raises(Invalid, match="A name has a line break or another control character"):
        conductor(config, odd, timezone="Europe/Paris")
    for field in ("train", "ticket", "override"):
        with pytest.raises(Invalid, match=f"{field} has a line break"):
            reserve(sync, ReservationRequest(PAIR, **{field: odd}), now)
    with pytest.raises(ConfigInvalid, match=r"calendar.name: .*line break"):
        configured(calendar={"name": odd})


@pytest.mark.parametrize("odd", ODD)
def test_notes_and_news_are_lines_and_nothing_is_written_for_others(sync, calendar, now, odd):  # noqa: F811
    reserve(sync, ReservationRequest(PAIR), now)
    week = sync.agenda.reservations[0].reservation.week
    before = calendar.changes(None)
    with pytest.raises(Invalid, match="note has a line break"):
        absences.add_absence(sync, EU.name, week.monday, week.monday, now, note=odd)
    with pytest.raises(Invalid, match="note has a line break"):
        hand_off(sync, Destinations().missing, week, US, odd, now)
    with pytest.raises(Invalid, match="text has a line break"):
        update(sync, Destinations(), week, EU.name, odd, now)
    assert calendar.changes(None) == before


@pytest.mark.parametrize(
    "command",
    [
        ("reserve", "\x1b[31mana@Europe/Paris", "ben@America/Denver"),
        ("reserve", "ana@Europe/Paris", "ben@America/Denver", "--override", "a\x07b"),
        ("reserve", "ana@Europe/Paris", "ben@America/Denver", "--train", "x" * 101),
    ],
)
def test_the_command_line_refuses_them_and_writes_nothing(run, calendar, command):  # noqa: F811
    said = run(*command)
    assert said.code == 2
    assert "control character" in said.err or "write between 1 and 100" in said.err
    assert "\x1b" not in said.err
    assert list(calendar.changes(None).changed) == []
