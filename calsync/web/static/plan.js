// Planning a pair at once, as its names and week are chosen, and reserving it. The server plans and checks; this file
// only asks it and shows what it says.

const TOKEN = "calsync-token";
const PAUSE = 250;

/** Make the form answer at once; `reserved` is called when a week was reserved. */
export function offerPlan(reserved) {
  const form = document.getElementById("plan");
  if (!form) return;
  let timer;
  form.addEventListener("input", (event) => {
    if (!["primary", "backup", "week"].includes(event.target.name)) return;
    allow(false); // what is shown is of other names
    clearTimeout(timer);
    timer = setTimeout(() => plan(form, reserved), PAUSE);
  });
  offerReserve(form, reserved);
}

/** Let the pair be reserved that is shown, or not while another one is asked for. */
function allow(allowed) {
  const submit = document.querySelector("#reserve [type=submit]");
  if (submit) submit.disabled = !allowed;
}

let asked = 0;

async function plan(form, reserved) {
  const fields = new FormData(form);
  if (!fields.get("primary").trim() || !fields.get("backup").trim()) return;
  const address = `${form.action}?${new URLSearchParams(fields)}`;
  const turn = ++asked;
  let text;
  try {
    text = await (await fetch(address, { headers: { Accept: "text/html" } })).text();
  } catch {
    return; // the button still works
  }
  if (turn !== asked) return; // somebody typed on
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("plan-result");
  if (!fresh) return; // no plan came, so that the old one stays, which cannot be reserved any more
  const result = document.getElementById("plan-result");
  result.innerHTML = fresh.innerHTML;
  // Who cannot see the result hears its first line, not all of it at every letter.
  document.getElementById("plan-news").textContent = result.querySelector("#plan-said, #refusal")?.textContent ?? "";
  if (location.pathname === new URL(form.action).pathname) history.replaceState(null, "", address);
  offerReserve(form, reserved);
}

function offerReserve(form, reserved) {
  const button = document.getElementById("reserve");
  if (!button) return;
  button.hidden = false;
  const token = button.elements.token;
  if (token) token.value = sessionStorage.getItem(TOKEN) ?? "";
  button.addEventListener("submit", (event) => {
    event.preventDefault();
    reserve(form, button, reserved);
  });
}

async function reserve(form, button, reserved) {
  const said = document.getElementById("reserved");
  const body = JSON.parse(button.dataset.body);
  for (const [name, field] of [["train", form.elements.train], ["ticket", form.elements.ticket], ["override", button.elements.override]])
    if (field?.value.trim()) body[name] = field.value.trim();
  const token = button.elements.token;
  const headers = { "Content-Type": "application/json" };
  if (token) {
    sessionStorage.setItem(TOKEN, token.value);
    headers.Authorization = `Bearer ${token.value}`;
  }
  asked++; // an answer that is still on its way does not take this one's place
  const submit = button.querySelector("[type=submit]");
  submit.disabled = true;
  said.replaceChildren();
  try {
    const answer = await fetch("/api/reservations", { method: "POST", headers, body: JSON.stringify(body) });
    const told = await answer.json();
    if (answer.ok) {
      button.hidden = true;
      said.replaceChildren(...success(told, form.elements.tz.value));
      reserved();
    } else {
      said.replaceChildren(...refusal(told));
      if (answer.status === 401) {
        sessionStorage.removeItem(TOKEN);
        token?.focus();
      }
    }
  } catch {
    said.replaceChildren(element("p", "The server did not answer; nothing is known to be reserved. Try again.", "warning"));
  } finally {
    submit.disabled = false;
  }
}

function success(told, tz) {
  const line = element("p", `${told.week} is reserved, with ${told.slots.length} slots. `, "said");
  const link = element("a", "See the week");
  link.href = `/week/${told.week}?tz=${encodeURIComponent(tz)}`;
  line.append(link);
  return [line, ...told.warnings.map((warning) => element("p", warning.message, "hint"))];
}

function refusal(told) {
  const shown = [element("p", told.detail ?? told.title, "warning")];
  const reasons = (told.conflicts ?? []).filter((conflict) => !told.detail?.includes(conflict.message));
  if (reasons.length) {
    const list = element("ul", "", "conflicts");
    list.append(...reasons.map((conflict) => element("li", conflict.message, conflict.blocking ? "blocking" : "warns")));
    shown.push(list);
  }
  return shown;
}

/** An element with text, which is never read as markup. */
function element(name, text, style = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = style;
  return made;
}
