// Keeps the feed's address in step with the form, and copies it.

/** Update the address whenever the form changes. */
export function offerSubscription() {
  const form = document.getElementById("subscribe");
  if (!form) return;
  const shown = document.getElementById("feed");
  form.addEventListener("input", () => show(form, shown));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(form, shown);
    shown.focus();
    shown.select();
  });
  const copy = document.getElementById("copy");
  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", async () => {
    const news = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(shown.value);
      news.textContent = "Copied.";
    } catch {
      shown.select();
      news.textContent = "Press Ctrl+C to copy.";
    }
  });
}

function show(form, shown) {
  const chosen = [...new FormData(form)].filter(([name, value]) => name !== "tz" && value.trim());
  const filters = new URLSearchParams(chosen).toString();
  const feed = form.dataset.feed + (filters ? `?${filters}` : "");
  const webcal = feed.replace(/^https?:/, "webcal:");
  const outlook = `url=${encodeURIComponent(feed)}&name=${encodeURIComponent(form.dataset.name)}`;
  shown.value = feed;
  document.getElementById("copied").textContent = "";
  document.getElementById("add-webcal").href = webcal;
  document.getElementById("add-google").href = `https://calendar.google.com/calendar/r?cid=${encodeURIComponent(webcal)}`;
  document.getElementById("add-outlook").href = `https://outlook.live.com/calendar/0/addfromweb?${outlook}`;
  document.getElementById("add-office").href = `https://outlook.office.com/calendar/0/addfromweb?${outlook}`;
}
