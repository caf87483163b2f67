// Refreshes the page every minute, and lets the arrow keys turn the weeks. The page can be read without this file.
import { offerPlan } from "./plan.js";
import { offerSubscription } from "./subscribe.js";

const EVERY = 60_000;

/** Replace the parts of this page that have changed, but not while the pointer or the focus is on them. */
export async function refresh() {
  let fresh;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return; // retried in a minute
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.innerHTML === part.innerHTML) continue;
    if (part.matches(":focus-within") || part.querySelector(".text:hover")) continue;
    part.innerHTML = next.innerHTML;
  }
}

function typing(target) {
  return target.closest("input, select, textarea, [contenteditable], .scroll") !== null;
}

/** The arrow keys turn the weeks, and Escape closes the card of an event. */
function press(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || typing(event.target)) return;
  const link = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (link) document.querySelector(`a[rel=${link}]`)?.click();
  if (event.key === "Escape") {
    if (document.activeElement.matches(".text")) document.activeElement.blur();
    document.body.classList.add("quiet"); // hides a card under the pointer until the pointer or the focus moves
  }
}

/** Load the timezones to choose from. */
async function suggestZones() {
  const answer = await fetch("/zones.json");
  if (!answer.ok) return;
  const zones = await answer.json();
  for (const list of document.querySelectorAll("#zone-list, #people")) {
    const listed = new Set([...list.options].map((option) => option.value));
    list.append(...zones.filter((name) => !listed.has(name)).map((name) => new Option(name, name)));
  }
}

function offerOwnZone() {
  const own = document.querySelector("[data-own-zone]");
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  if (!own || !timeZone) return;
  const isListed = [...document.querySelectorAll(".zones li a")].some((link) => new URL(link.href).searchParams.get("tz") === timeZone);
  if (isListed) return;
  own.href = own.dataset.ownZone.replace("ZONE", encodeURIComponent(timeZone));
  own.textContent = `yours (${timeZone.replaceAll("_", " ")})`;
  own.parentElement.hidden = false;
}

document.addEventListener("keydown", press);
for (const moving of ["pointermove", "focusin"]) document.addEventListener(moving, () => document.body.classList.remove("quiet"));
document.addEventListener("focusin", (event) => event.target.matches("input[list]") && suggestZonesOnce());
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setInterval(() => document.hidden || refresh(), EVERY);

let suggested = false;
function suggestZonesOnce() {
  if (!suggested) suggestZones().catch(() => (suggested = false));
  suggested = true;
}

offerOwnZone();
offerPlan(refresh);
offerSubscription();
