// Everything here is a convenience: each action is a form or a link first, and works without this file.
"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const say = (text) => { $("#said").textContent = text; };
const send = (form, button) =>
  fetch(form.action, {
    method: "POST",
    headers: { Accept: "application/json" },
    body: new URLSearchParams(new FormData(form, button)),
  });

// Votes and the theme, without leaving the page.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.matches(".vote")) {
    event.preventDefault();
    const answer = await send(form).catch(() => null);
    if (!answer || !answer.ok) return say("The vote could not be kept. Reload the page and try again.");
    const { voted, change } = await answer.json();
    const button = $("button", form);
    const count = $(".n", button);
    button.setAttribute("aria-pressed", voted);
    count.textContent = (Number(count.textContent.replaceAll(",", "")) + change).toLocaleString("en");
    form.elements.act.value = voted ? "withdraw" : "cast";
    say(voted ? "Voted." : "Vote taken back.");
  } else if (form.matches(".theme")) {
    event.preventDefault();
    const answer = await send(form, event.submitter).catch(() => null);
    if (!answer || !answer.ok) return;
    document.documentElement.dataset.theme = event.submitter.value;
    for (const button of $$("button", form)) button.setAttribute("aria-pressed", button === event.submitter);
  }
});

// Filters, windows and days swap the main part; 'more' adds to the list.
async function swap(address, keep) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || !answer.ok) { location.href = address; return; }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.title = page.title;
  $("main").replaceWith($("main", page));
  if (keep) history.pushState({ swapped: true }, "", address);
  $("main").focus({ preventScroll: true });
  prepare();
}
document.addEventListener("click", async (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText($("code", copy.parentElement).textContent);
    return say("Copied.");
  }
  const link = event.target.closest("a[data-swap]");
  if (!link) return;
  event.preventDefault();
  if (link.rel !== "next" || !$("#list") || !link.closest(".more")) return swap(link.href, true);
  const answer = await fetch(link.href).catch(() => null);
  if (!answer || !answer.ok) { location.href = link.href; return; }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = $$("#list > li", page);
  $("#list").append(...fresh);
  const more = $(".more", page);
  more ? $(".more").replaceWith(more) : $(".more").remove();
  say(`${fresh.length} more papers.`);
  $("a[data-open]", fresh[0])?.focus();
});
addEventListener("popstate", () => swap(location.href, false));

// Keys. Off while typing, and with any modifier.
let current = null;
function move(step) {
  const items = $$("[data-item]");
  if (!items.length) return;
  const at = items.indexOf(current);
  const to = at < 0 ? (step > 0 ? 0 : items.length - 1) : Math.min(items.length - 1, Math.max(0, at + step));
  current?.classList.remove("current");
  current = items[to];
  current.classList.add("current");
  current.scrollIntoView({ block: "nearest" });
  $("[data-open]", current)?.focus({ preventScroll: true });
}
const keys = {
  "/": () => $("#q").focus(),
  j: () => move(1),
  k: () => move(-1),
  o: () => $("[data-open]", chosen())?.click(),
  u: () => $(".vote button", chosen())?.click(),
  s: () => $("[data-similar] a, a[data-similar]", chosen())?.click(),
  h: () => { location.href = "/"; },
  "?": () => $("#keys-dialog").showModal(),
};
const chosen = () => (current?.isConnected ? current : $("[data-item]")) ?? document;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $("dialog[open]")) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// A run that goes on: events since the last one this page has shown; the browser resumes with Last-Event-ID by itself.
let source = null;
function follow(run) {
  source?.close();
  source = new EventSource(`/runs/${run.dataset.run}/events?after=${run.dataset.last}`);
  let spoken = 0;
  const line = (text) => {
    const log = $("[data-log]", run);
    const end = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.append(`${text}\n`);
    if (end) log.scrollTop = log.scrollHeight;
  };
  source.addEventListener("log", (event) => line(JSON.parse(event.data).line));
  source.addEventListener("measurement", (event) => {
    for (const cells of JSON.parse(event.data).rows) {
      const row = $("[data-measurements] tbody", run).insertRow();
      for (const cell of cells) row.insertCell().textContent = cell;
    }
  });
  source.addEventListener("state", (event) => {
    const { state, done, total, note } = JSON.parse(event.data);
    $("[data-state]", run).textContent = state;
    const bar = $("[data-bar]", run);
    if (bar) { bar.max = total || 1; bar.value = done; }
    if (Date.now() - spoken > 5000) { spoken = Date.now(); $("[data-note]", run).textContent = note; }
  });
  source.addEventListener("end", () => { source.close(); swap(location.href, false); });
}

function prepare() {
  current = null;
  for (const button of $$("[data-copy]")) button.hidden = !navigator.clipboard;
  if (matchMedia("(max-width: 48em)").matches) $(".filters")?.removeAttribute("open");
  const zone = $("[data-zone]");
  if (zone && zone.value === "UTC") zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const run = $("[data-run]");
  if (run?.dataset.live === "yes") follow(run); else source?.close();
}
prepare();
