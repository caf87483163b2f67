"""Where an update goes, and why."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from calsync.booking import absences
from calsync.core.conductors import conductor
from calsync.core.errors import Invalid
from calsync.notifications import updates
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.schedule.diary import Busy
from calsync.schedule.status import on_call_status
from calsync.schedule.sync import CalendarSync
from support.pair import ANA, BEN, CEM, MIDWEEK, TEAM, handed, outcomes, standing, told
from support.samples import configured

# Updates


@pytest.mark.parametrize(
    ("at", "sender", "targets"),
    [
        # Paris is at work from 09:00 to 18:00: 07:00 to 16:00 in UTC in summer, 08:00 to 17:00 in winter.
        ("2026-10-24T07:30", "ben", "updates"),
        ("2026-10-25T07:30", "ben", "ticket"),  # Europe's clocks went back this night
        ("2026-10-25T08:00", "ben", "updates"),
        ("2026-10-25T16:59", "ben", "updates"),
        ("2026-10-25T17:00", "ben", "ticket"),
        ("2027-03-27T07:59", "ben", "ticket"),
        ("2027-03-28T07:00", "ben", "updates"),  # and forward
        ("2027-03-28T16:00", "ben", "ticket"),
        # Denver likewise: 15:00 to 00:00 in UTC in summer, 16:00 to 01:00 in winter.
        ("2026-10-31T15:00", "ana", "updates"),
        ("2026-11-01T15:30", "ana", "ticket"),  # America's clocks went back this night
        ("2026-11-01T16:00", "ana", "updates"),
        ("2026-11-02T00:30", "ana", "updates"),
        ("2026-11-02T01:00", "ana", "ticket"),
        ("2027-03-13T15:30", "ana", "ticket"),
        ("2027-03-14T15:00", "ana", "updates"),  # and forward
        ("2027-03-15T00:00", "ana", "ticket"),
        # In the weeks between, each keeps to its own clock.
        ("2026-10-27T16:30", "ben", "updates"),
        ("2026-10-27T15:30", "ana", "updates"),
        ("2027-03-16T16:30", "ben", "updates"),
        ("2027-03-16T15:30", "ana", "updates"),
    ],
)
def test_an_update_goes_to_the_channel_exactly_while_the_partner_is_at_work(sync, team, now, at, sender, targets):
    partner = {"ana": BEN, "ben": ANA}[sender]
    partner = replace(partner, hours=partner.hours.daily)  # the clocks change on Sundays
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = updates.preferred_route(sync.agenda, partner, False, moment)
    assert found.targets == (targets,)
    decided = updates.preferred_route(sync.agenda, partner, True, moment)
    assert decided.targets == ("ticket", "log")


@pytest.mark.parametrize(
    ("at", "days", "targets"),
    [
        # From Monday to Friday, Paris: 07:00 to 16:00 in UTC in summer, 08:00 to 17:00 in winter.
        ("2026-10-23T15:59", "mon-fri", "updates"),
        ("2026-10-23T16:00", "mon-fri", "ticket"),
        ("2026-10-24T10:00", "mon-fri", "ticket"),  # Saturday
        ("2026-10-25T10:00", "mon-fri", "ticket"),  # Sunday, on which the clocks went back
        ("2026-10-26T07:30", "mon-fri", "ticket"),
        ("2026-10-26T08:00", "mon-fri", "updates"),
        ("2026-12-06T10:00", "mon-fri", "ticket"),
        ("2027-03-26T08:00", "mon-fri", "updates"),
        ("2027-03-28T10:00", "mon-fri", "ticket"),  # Sunday, on which they went forward
        ("2027-03-29T07:00", "mon-fri", "updates"),
        ("2027-03-29T06:59", "mon-fri", "ticket"),
        # Other weeks.
        ("2026-10-25T08:00", "sun-thu", "updates"),
        ("2026-10-25T07:30", "sun-thu", "ticket"),
        ("2026-10-23T10:00", "sun-thu", "ticket"),
        ("2026-12-02T10:00", "mon,tue", "ticket"),
        ("2026-12-01T10:00", "mon,tue", "updates"),
    ],
)
def test_an_update_goes_to_the_ticket_on_days_on_which_the_partner_does_not_work(calendar, now, at, days, targets):
    listed = {"mon-fri": None, "sun-thu": ["sun", "mon", "tue", "wed", "thu"], "mon,tue": ["mon", "tue"]}[days]
    team = configured(conductors=[TEAM[0] | ({"days": listed} if listed else {}), *TEAM[1:]])
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    found = updates.preferred_route(CalendarSync(calendar, team, now).agenda, conductor(team, "ana"), False, moment)
    assert found.targets == (targets,)


def test_an_update_on_a_sunday_says_from_when_on_the_partner_is_reached(sync, team):
    found = updates.preferred_route(sync.agenda, ANA, False, datetime(2026, 12, 6, 10, tzinfo=UTC))
    assert found.reason == "it is 11:00 for ana, who is outside working hours until Mon 09:00"


def test_a_partner_whose_feed_cannot_be_read_is_not_taken_for_present_without_saying_so(sync, team):
    agenda = replace(sync.agenda, busy={"ana": Busy(unknown="their busy feed cannot be read (it answers 404)")})
    found = updates.preferred_route(agenda, ANA, False, MIDWEEK)
    assert found.reason == (
        "it is 13:00 for ana, who is within working hours until 18:00; calsync cannot tell whether they are away: "
        "their busy feed cannot be read (it answers 404)"
    )
    assert on_call_status(agenda, ANA, MIDWEEK).unknown == "their busy feed cannot be read (it answers 404)"
    assert on_call_status(agenda, BEN, MIDWEEK).unknown is None


def test_an_update_says_where_it_went_and_why(known, destinations, server, room):
    found, sent = told(known, destinations, sender="ben")
    assert outcomes(sent) == {"updates": "sent"}
    assert found.route.reason == "it is 13:00 for ana, who is within working hours until 18:00"
    assert room.said == ["ana_: group1 is out (ben, MediaWiki train 1.46.0-wmf.5, T400001)"]
    found, sent = told(known, destinations)
    assert outcomes(sent) == {"ticket": "sent"}
    assert found.route.reason == "it is 05:00 for ben, who is outside working hours until Wed 09:00"
    assert (server.comments()[0].startswith("group1 is out\n\nana"), server.owner()) == (True, None)


def test_a_decision_goes_onto_the_ticket_and_into_the_log(known, destinations, server, room):
    _, sent = told(known, destinations, "rolling back", decision=True)
    assert outcomes(sent) == {"ticket": "sent", "log": "sent"}
    assert room.said == ["!log rolling back (MediaWiki train 1.46.0-wmf.5, T400001: ana)"]
    assert len(server.comments()) == 1


def test_a_partner_who_is_away_reads_it_on_the_ticket(known, destinations):
    absences.add_absence(known, "ana", date(2026, 12, 2), date(2026, 12, 2), MIDWEEK)
    found, sent = told(known, destinations, sender="ben")
    assert outcomes(sent) == {"ticket": "sent"}
    assert found.route.reason == "ana is away until Thu 00:00 Europe/Paris"


def test_where_its_place_is_not_set_up_an_update_takes_the_other(known, destinations, room):
    alone = replace(destinations, tickets=None)
    found, sent = told(known, alone)
    assert outcomes(sent) == {"updates": "sent"}
    assert found.route.reason.endswith("it goes to the channel instead, because no ticket system is set up; see [tickets]")
    _, sent = told(known, alone, "rolling back", decision=True)
    assert outcomes(sent) == {"ticket": "skipped", "log": "sent"}
    _, sent = told(known, replace(destinations, channels=Channels()), "news", "ben")
    assert outcomes(sent) == {"ticket": "sent"}
    with pytest.raises(Invalid, match="There is nowhere to send it"):
        told(known, Destinations(), "more news")


def test_the_same_words_again_at_once_are_one_update(known, destinations, room):
    for minutes in (0, 1, 9):
        told(known, destinations, sender="ben", at=MIDWEEK + timedelta(minutes=minutes))
    assert len(room.said) == 1
    told(known, destinations, sender="ben", at=MIDWEEK + timedelta(minutes=11))
    assert len(room.said) == 2


def test_updates_come_from_those_who_conduct_and_go_to_who_is_responsible(known, destinations):
    with pytest.raises(Invalid, match="updates come from ana and ben"):
        told(known, destinations, sender="zoe")
    handed(known, destinations, CEM)
    reservation = standing(known).reservation
    partners = [updates.partner_of(reservation, who).name for who in ("ana", "ben", "cem")]
    assert partners == ["cem", "cem", "ana"]
