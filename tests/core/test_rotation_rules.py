"""The rotation is staggered, fair over its year, and never changed by what comes later."""

from hypothesis import given
from hypothesis import strategies as st

from calsync.core.rotation import YEAR, rotate, tally, year_of
from calsync.core.weeks import Week

START = Week(2026, 49)
NAMES = ["ana", "ben", "cem", "dee", "eva", "fay"]
WEEKS = st.integers(0, YEAR - 1).map(START.shift)


@st.composite
def situations(draw):
    """A roster, weeks without a train, reserved weeks, and who is away when."""
    order = draw(st.permutations(NAMES[: draw(st.integers(2, len(NAMES)))]))
    declined = draw(st.sets(WEEKS, max_size=8))
    pairs = st.permutations(order).map(lambda names: (names[0], names[1]))
    reserved = draw(st.dictionaries(WEEKS, pairs, max_size=6))
    absent = draw(st.sets(st.tuples(st.sampled_from(order), WEEKS), max_size=20))
    return order, declined, reserved, absent


def turns(order, declined=(), reserved=None, absent=(), weeks=YEAR):
    return list(
        rotate(
            order,
            START,
            START.shift(weeks - 1),
            reserved or {},
            declined,
            lambda name, week, _primary: "on leave" if (name, week) in absent else None,
        )
    )


@given(situations())
def test_this_weeks_primary_is_next_weeks_backup_unless_they_are_away(situation):
    order, declined, reserved, absent = situation
    former = order[-1]
    for turn in turns(order, declined, reserved, absent):
        if turn.state == "planned":
            assert turn.primary != turn.backup
            assert former in (turn.backup, None) or (former, turn.week) in absent, turn
            assert (turn.backup == former) == (not any("stands in" in note for note in turn.notes))
        if turn.state in ("planned", "reserved"):
            former = turn.primary


@given(situations())
def test_nobody_who_is_away_is_planned(situation):
    order, declined, reserved, absent = situation
    for turn in turns(order, declined, reserved, absent):
        if turn.state in ("planned", "open"):
            assert not {(turn.primary, turn.week), (turn.backup, turn.week)} & absent


@given(situations())
def test_reserved_weeks_stay_as_they_are_and_weeks_without_a_train_take_no_turn(situation):
    order, declined, reserved, absent = situation
    year = turns(order, declined, reserved, absent)
    assert [turn.week for turn in year] == [START.shift(n) for n in range(YEAR)]
    for turn in year:
        if turn.week in reserved:
            assert (turn.state, turn.primary, turn.backup) == ("reserved", *reserved[turn.week])
        elif turn.week in declined:
            assert (turn.state, turn.primary, turn.backup) == ("no-train", None, None)
        else:
            assert turn.state in ("planned", "open")


@given(situations())
def test_over_a_year_turns_differ_by_at_most_one_or_the_reason_is_given(situation):
    order, declined, reserved, absent = situation
    tallies = tally(order, turns(order, declined, reserved, absent))
    counts = [entry.turns for entry in tallies]
    if not absent and not reserved:
        assert max(counts) - min(counts) <= 1
    for entry in tallies:
        if max(counts) - entry.turns > 1 or entry.turns - min(counts) > 1:
            assert entry.reason, tallies
    assert all(entry.reason is None for entry in tallies) or max(counts) - min(counts) > 1


@given(
    st.permutations(NAMES[:5]),
    st.sets(WEEKS, max_size=8),
    st.sampled_from(NAMES[:5]),
    st.integers(0, 38),
    st.integers(1, 8),
)
def test_turns_missed_on_a_leave_of_weeks_are_made_up_for_within_the_year(order, declined, who, first, length):
    absent = {(who, START.shift(first + n)) for n in range(length)}
    counts = [entry.turns for entry in tally(order, turns(order, declined, absent=absent))]
    assert max(counts) - min(counts) <= 1


@given(situations(), st.integers(0, YEAR - 1), st.sampled_from(NAMES))
def test_an_absence_changes_nothing_in_the_weeks_before_it(situation, n, who):
    order, declined, reserved, absent = situation
    before = turns(order, declined, reserved, absent)
    after = turns(order, declined, reserved, absent | {(who, START.shift(n))})
    assert after[:n] == before[:n]


@given(situations(), st.integers(0, YEAR - 1))
def test_reserving_a_week_as_it_was_planned_changes_nothing_else(situation, n):
    order, declined, reserved, absent = situation
    before = turns(order, declined, reserved, absent)
    turn = before[n]
    if turn.state == "planned" and not turn.passed:
        after = turns(order, declined, reserved | {turn.week: (turn.primary, turn.backup)}, absent)
        assert [(turn.primary, turn.backup) for turn in after] == [(turn.primary, turn.backup) for turn in before]


@given(situations())
def test_asking_for_more_weeks_changes_none_of_the_first_ones(situation):
    order, declined, reserved, absent = situation
    long = turns(order, declined, reserved, absent, weeks=2 * YEAR)
    assert long[:YEAR] == turns(order, declined, reserved, absent)


def primaries(*arguments, **options):
    return "".join((turn.primary or "-")[0] for turn in turns(*arguments, **options))


def test_whoever_is_passed_over_takes_the_next_free_turn():
    assert primaries(NAMES[:4], weeks=8) == "abcdabcd"
    assert primaries(NAMES[:4], absent={("ben", START.shift(1))}, weeks=8) == "acbdacbd"
    away_twice = {("ben", START.shift(1)), ("ben", START.shift(2))}
    assert primaries(NAMES[:4], absent=away_twice, weeks=5) == "acdba"


def test_the_rotation_goes_on_from_a_reserved_week():
    assert primaries(NAMES[:4], reserved={START.shift(1): ("dee", "ana")}, weeks=7) == "adbcadb"
    first, _ = turns(NAMES[:4], reserved={START.shift(-1): ("ben", "ana")}, weeks=2)
    assert (first.primary, first.backup) == ("cem", "ben")


def test_a_guest_is_followed_by_somebody_who_stands_in_as_backup():
    _, second = turns(NAMES[:3], reserved={START: ("zoe", "ana")}, weeks=2)
    assert (second.primary, second.backup) == ("ana", "ben")
    assert second.notes == ("zoe conducted last and is not the backup: not in the rotation; ben stands in.",)


def test_a_week_that_cannot_be_filled_stays_open_and_says_why():
    absent = {(name, START) for name in NAMES[:2]}
    (turn,) = turns(NAMES[:2], absent=absent, weeks=1)
    assert (turn.state, turn.primary, turn.backup) == ("open", None, None)
    assert [note.split(":")[0] for note in turn.notes[:2]] == [
        "ana is passed over",
        "ben is last in the order and is not the backup",
    ]
    assert "rotation.order" in turn.notes[-1]


@given(situations())
def test_a_week_that_cannot_be_filled_names_everybody_who_is_away_once_and_says_what_to_do(situation):
    order, declined, reserved, absent = situation
    for turn in turns(order, declined, reserved, absent):
        if turn.state == "open":
            missing = [name for name in order if (name, turn.week) in absent]
            named = [note.split()[0] for note in turn.notes if note.endswith("on leave.") or "on leave;" in note]
            assert sorted(named) == sorted(missing)
            assert "rotation.order" in turn.notes[-1]


def test_one_of_two_who_is_away_leaves_the_week_open_with_the_other_in_their_place():
    first, second = turns(NAMES[:2], absent={("ben", START), ("ben", START.shift(1))}, weeks=2)
    assert (first.state, first.primary, first.backup) == ("open", "ana", None)
    assert first.notes[0].startswith("ben is last in the order and is not the backup: on leave; ")
    assert (second.state, second.primary, second.backup) == ("open", "ana", None)


def test_the_first_note_does_not_claim_that_somebody_conducted_before():
    absent = {("dee", START), ("ana", START.shift(1))}
    first, second = turns(NAMES[:4], absent=absent, weeks=2)
    assert first.notes == ("dee is last in the order and is not the backup: on leave; ben stands in.",)
    assert second.notes == ("ana conducted last and is not the backup: on leave; cem stands in.",)
    (led,) = turns(NAMES[:4], reserved={START.shift(-1): ("dee", "ana")}, absent=absent, weeks=1)
    assert led.notes[0].startswith("dee conducted last and is not the backup")


def test_the_reason_names_the_weeks_that_somebody_missed():
    absent = {("ana", START.shift(n)) for n in range(YEAR)}
    tallies = {entry.name: entry for entry in tally(NAMES[:3], turns(NAMES[:3], absent=absent))}
    assert tallies["ana"].turns == 0
    assert tallies["ana"].reason.startswith("away when it was their turn in 2026-W49, ")
    assert tallies["ben"].reason == "took turns of those who were away: ana"


def test_the_year_of_a_rotation_is_counted_from_its_start():
    assert year_of(START, START) == (START, START.shift(51))
    assert year_of(START, START.shift(52)) == (START.shift(52), START.shift(103))
    assert primaries(NAMES[:2], weeks=YEAR + 4)[-4:] == "abab"
