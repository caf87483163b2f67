// Plans a pair while its names and week are chosen, and reserves it. The server plans and checks; this file only shows the
// answers.

const TOKEN = "calsync-token";
const PAUSE = 250;

/** Plan whenever the form changes; call `reserved` after a week was reserved. */
export function offerPlan(reserved) {
  const form = document.getElementById("plan");
  if (!form) return;
  let timer;
  form.addEventListener("input", (event) => {
    if (!["primary", "backup", "week"].includes(event.target.name)) return;
    allow(false); // the plan on the page is for other names
    clearTimeout(timer);
    timer = setTimeout(() => plan(form, reserved), PAUSE);
  });
  offerReserve(form, reserved);
}

/** Enable the button to reserve the pair on the page, or disable it while another plan is on its way. */
function allow(allowed) {
  const submit = document.querySelector("#reserve [type=submit]");
  if (submit) submit.disabled = !allowed;
}

let requests = 0;

async function plan(form, reserved) {
  const fields = new FormData(form);
  if (!fields.get("primary").trim() || !fields.get("backup").trim()) return;
  const address = `${form.action}?${new URLSearchParams(fields)}`;
  const turn = ++requests;
  let text;
  try {
    text = await (await fetch(address, { headers: { Accept: "text/html" } })).text();
  } catch {
    return; // the button still works
  }
  if (turn !== requests) return; // the form has changed since
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("plan-result");
  if (!fresh) return; // without a plan in the answer, the old one stays, with its button disabled
  const result = document.getElementById("plan-result");
  result.innerHTML = fresh.innerHTML;
  // A screen reader reads the first line of the result, not all of it at every letter.
  document.getElementById("plan-news").textContent = result.querySelector("#plan-heading, #refusal")?.textContent ?? "";
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
  const news = document.getElementById("reserved");
  const body = JSON.parse(button.dataset.body);
  for (const [name, field] of [["train", form.elements.train], ["ticket", form.elements.ticket], ["override", button.elements.override]])
    if (field?.value.trim()) body[name] = field.value.trim();
  const token = button.elements.token;
  const headers = { "Content-Type": "application/json" };
  if (token) {
    sessionStorage.setItem(TOKEN, token.value);
    headers.Authorization = `Bearer ${token.value}`;
  }
  requests++; // a plan that is still on its way must not replace this answer
  const submit = button.querySelector("[type=submit]");
  submit.disabled = true;
  news.replaceChildren();
  try {
    const answer = await fetch("/api/reservations", { method: "POST", headers, body: JSON.stringify(body) });
    const result = await answer.json();
    if (answer.ok) {
      button.hidden = true;
      news.replaceChildren(...success(result, form.elements.tz.value));
      reserved();
    } else {
      news.replaceChildren(...refusal(result));
      if (answer.status === 401) {
        sessionStorage.removeItem(TOKEN);
        token?.focus();
      }
    }
  } catch {
    news.replaceChildren(element("p", "The server did not answer, so it is unknown whether the week is reserved. Try again.", "warning"));
  } finally {
    submit.disabled = false;
  }
}

function success(reservation, tz) {
  const line = element("p", `${reservation.week} is reserved, with ${reservation.slots.length} slots. `, "success");
  const link = element("a", "See the week");
  link.href = `/week/${reservation.week}?tz=${encodeURIComponent(tz)}`;
  line.append(link);
  return [line, ...reservation.warnings.map((warning) => element("p", warning.message, "hint"))];
}

function refusal(problem) {
  const shown = [element("p", problem.detail ?? problem.title, "warning")];
  const reasons = (problem.conflicts ?? []).filter((conflict) => !problem.detail?.includes(conflict.message));
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
