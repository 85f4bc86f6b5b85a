"use strict";
// The page works without this: it follows Airflow's theme and time zone, opens links outside the frame, looks again
// from time to time, and clears a task where it is shown.

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
  const link = event.target.closest("a[target], a[download]");
  const page = airflow();
  if (!link || !page || event.defaultPrevented) return;
  event.preventDefault();
  const twin = page.createElement("a");
  twin.href = link.href;
  twin.rel = "noopener noreferrer";
  if (link.hasAttribute("download") && !link.target) twin.download = "";
  twin.target = link.target === "_blank" || event.ctrlKey || event.metaKey ? "_blank" : "_self";
  twin.click();
}

// The time zone that the person has chosen in Airflow, which without one shows times in that of the browser.
function chosenZone() {
  try {
    return (window.localStorage.getItem("timezone") || "").replaceAll('"', "") || undefined;
  } catch {
    return undefined;
  }
}

function writeTimes(root) {
  const style = {
    timeZone: chosenZone(), timeZoneName: "short", year: "numeric", month: "2-digit",
    day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  };
  let format;
  try {
    format = new Intl.DateTimeFormat("sv", style);
  } catch {
    return;
  }
  for (const time of root.querySelectorAll("time")) time.textContent = format.format(new Date(time.dateTime));
}

// A form that somebody fills in, or a text that somebody has marked, is not to be pulled away.
function isBusy() {
  const focused = document.activeElement;
  return Boolean(document.querySelector(".asked"))
    || Boolean(focused && focused.matches("input, select, textarea"))
    || !window.getSelection().isCollapsed;
}

const keyOf = (element) => `${element.closest("[id]").id} ${element.tagName} ${element.getAttribute("href") || element.textContent}`;

let shown = "";

async function refresh() {
  if (document.hidden || isBusy()) return;
  const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || !answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("content");
  if (!fresh || fresh.innerHTML === shown || isBusy()) return;
  shown = fresh.innerHTML;
  writeTimes(fresh);
  const old = document.getElementById("content");
  const open = new Set([...old.querySelectorAll("details[open] > summary")].map(keyOf));
  for (const summary of fresh.querySelectorAll("details > summary")) summary.parentElement.open = open.has(keyOf(summary));
  const focused = old.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  const { scrollX, scrollY } = window;
  old.replaceWith(document.adoptNode(fresh));
  window.scrollTo(scrollX, scrollY);
  if (focused) [...fresh.querySelectorAll("a, summary")].find((one) => keyOf(one) === focused)?.focus({ preventScroll: true });
}

// The frame may show no dialog, so the link itself asks.
async function clear(event) {
  const link = event.target.closest("a.clear");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const { dag, run, task, index } = link.dataset;
  if (!link.classList.contains("asked")) {
    link.classList.add("asked");
    link.textContent = "run it again?";
    window.setTimeout(() => { link.classList.remove("asked"); link.textContent = "clear"; }, 8000);
    return;
  }
  link.classList.remove("asked");
  const answer = await fetch(`../api/v2/dags/${encodeURIComponent(dag)}/clearTaskInstances`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      dry_run: false, dag_run_id: run, only_failed: false, include_downstream: true,
      task_ids: [index === "-1" ? task : [task, Number(index)]],
    }),
  }).catch(() => null);
  const told = answer && answer.ok ? "cleared" : `not cleared${answer ? `: ${answer.status}` : ""}`;
  link.textContent = told;
  document.getElementById("told").textContent = `${task}: ${told}`;
}

const page = airflow();
if (page) {
  followTheme(page);
  new MutationObserver(() => followTheme(page)).observe(page.documentElement, { attributeFilter: ["class"] });
}
document.addEventListener("click", clear);
document.addEventListener("click", leave);
const content = document.getElementById("content");
if (content) {
  shown = content.innerHTML;
  writeTimes(content);
  const form = document.getElementById("choice");
  // A date is typed digit by digit; it counts when the person says so.
  form.addEventListener("change", (event) => { if (event.target.matches("select")) form.requestSubmit(); });
  window.setInterval(refresh, REFRESH_MS);
  document.documentElement.dataset.ready = "";
}
