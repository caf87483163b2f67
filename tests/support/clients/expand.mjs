// node expand.mjs: for each line {"text": a feed, "start", "end"} (UTC, ISO 8601) what ical.js shows of the feed from start
// until end, as a line of JSON. Instants are in UTC and end in Z; times without a Z are floating, dates are whole days.
import { createInterface } from "node:readline";
import ICAL from "ical.js";

const shown = (time) =>
  (time.isDate || time.zone === ICAL.Timezone.localTimezone ? time : time.convertToZone(ICAL.Timezone.utcTimezone)).toString();

function expand(text, start, end) {
  const calendar = new ICAL.Component(ICAL.parse(text));
  ICAL.TimezoneService.reset();
  for (const timezone of calendar.getAllSubcomponents("vtimezone")) ICAL.TimezoneService.register(timezone);

  const found = [];
  function add({ item, startDate, endDate }) {
    if (startDate.compare(end) < 0 && endDate.compare(start) > 0)
      found.push({ uid: item.uid, summary: item.summary, start: shown(startDate), end: shown(endDate) });
  }

  const events = calendar.getAllSubcomponents("vevent");
  const masters = events.filter((event) => !event.hasProperty("recurrence-id"));
  for (const master of masters) {
    const uid = master.getFirstPropertyValue("uid");
    const exceptions = events.filter(
      (event) => event.hasProperty("recurrence-id") && event.getFirstPropertyValue("uid") === uid,
    );
    const event = new ICAL.Event(master, { exceptions });
    if (!event.isRecurring()) {
      add({ item: event, startDate: event.startDate, endDate: event.endDate });
      continue;
    }
    const overridden = exceptions.map((exception) => exception.getFirstPropertyValue("recurrence-id"));
    const last = [end, ...overridden].reduce((one, other) => (one.compare(other) > 0 ? one : other));
    const iterator = event.iterator();
    for (let next = iterator.next(); next && next.compare(last) <= 0; next = iterator.next())
      add(event.getOccurrenceDetails(next));
  }
  const known = new Set(masters.map((master) => master.getFirstPropertyValue("uid")));
  for (const event of events.map((component) => new ICAL.Event(component, { exceptions: [] })))
    if (!known.has(event.uid)) add({ item: event, startDate: event.startDate, endDate: event.endDate });
  return found;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { text, start, end } = JSON.parse(line);
  const [first, last] = [start, end].map((moment) => ICAL.Time.fromDateTimeString(moment));
  console.log(JSON.stringify(expand(text, first, last)));
}
