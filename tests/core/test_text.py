from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from calsync.core.errors import Invalid
from calsync.core.text import SENTENCE, check_line, format_duration, strip_controls
from calsync.schemas.requests import Sentence


def is_accepted(text):
    """Whether the API accepts the text."""
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
    assert sound == is_accepted(text)


@given(st.text(max_size=30))
def test_stripped_lines_pass_the_check_and_keep_every_visible_character(text):
    for line in strip_controls(text).split("\n"):
        if line:
            check_line("note", line, SENTENCE)
    assert [char for char in text if char.isprintable()] == [char for char in strip_controls(text) if char.isprintable()]


def test_words_of_any_script_and_joined_emoji_are_lines():
    for text in ("naïve 火車", "عربي", "👩‍💻 deploys", "a" * SENTENCE):
        check_line("note", text, SENTENCE)
    with pytest.raises(Invalid, match="note has 501 characters; write between 1 and 500"):
        check_line("note", "a" * 501, SENTENCE)


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "0 min"), (45, "45 min"), (60, "1 h"), (90, "1 h 30 min"), (600, "10 h")]
)
def test_a_duration_is_written_in_hours_and_minutes(minutes, text):
    assert format_duration(timedelta(minutes=minutes)) == text
