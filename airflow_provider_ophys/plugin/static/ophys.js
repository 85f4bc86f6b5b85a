"use strict";
// The page works without this: it follows Airflow's theme, opens links outside the frame, writes times as the
// person's clock does, and looks again from time to time.

const REFRESH_MS = 15000;

// Airflow embeds the page from the same origin; elsewhere, as in a window of its own, there is nobody to ask.
function airflow() {
  try {
    return window.parent !== window && window.parent.document ? window.parent.document : null;
  } catch {
    return null;
  }
}

function followTheme(page) {
  const dark = page.documentElement.classList.contains("dark");
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

// Airflow's frame lets nothing in it open a window or leave, so a link of Airflow's own page has to.
function leave(event) {
  const link = event.target.closest("a[target]");
  const page = airflow();
  if (!link || !page) return;
  event.preventDefault();
  const twin = page.createElement("a");
  twin.href = link.href;
  twin.rel = "noopener noreferrer";
  twin.target = link.target === "_blank" || event.ctrlKey || event.metaKey ? "_blank" : "_self";
  twin.click();
}

function writeTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    const moment = new Date(time.dateTime);
    time.title = time.textContent;
    time.textContent = moment.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}

let shown = "";

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
  if (!fresh || fresh.innerHTML === shown) return;
  shown = fresh.innerHTML;
  writeTimes(fresh);
  document.getElementById("content").replaceWith(document.adoptNode(fresh));
}

const page = airflow();
if (page) {
  followTheme(page);
  new MutationObserver(() => followTheme(page)).observe(page.documentElement, { attributeFilter: ["class"] });
}
document.addEventListener("click", leave);
const content = document.getElementById("content");
if (content) {
  shown = content.innerHTML;
  writeTimes(content);
  const form = document.getElementById("choice");
  form.addEventListener("change", () => form.requestSubmit());
  window.setInterval(refresh, REFRESH_MS);
}
