// What the pages have beyond links and forms: times in the viewer's zone; the page of messages its live tail.
import { follow } from "./live.js";

const SECOND = 1000, UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const language = document.documentElement.lang || undefined;
const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "long" });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const pad = (number, length = 2) => String(number).padStart(length, "0");

function ago(date) {
  const seconds = (date - Date.now()) / SECOND;
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

function local(date, always) {
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  const precise = `${time}.${pad(date.getMilliseconds(), 3)}`;
  if (always) return `${day} ${precise}`;
  return date.toDateString() === new Date().toDateString() ? precise : `${day} ${time}`;
}

export function showTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const date = new Date(element.dateTime);
    if (isNaN(date)) continue;
    element.textContent = "long" in element.dataset ? `${local(date, true)} (${ago(date)})` : local(date, false);
    element.title = `${exact.format(date)}, ${ago(date)}`;
  }
}

function showZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const name = document.querySelector("form .zone"), field = name?.closest("form").elements.zone;
  if (!field || !zone) return;
  const given = field.value && [...field.form.querySelectorAll("[type=datetime-local]")].some((time) => time.value);
  if (!given) field.value = zone; // an address that was passed on keeps the zone it was written in
  name.textContent = field.value;
}

// In the list the arrow keys go from message to message.
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest?.("#rows tr");
  if (!step || !row || event.altKey || event.ctrlKey || event.metaKey) return;
  const link = (step > 0 ? row.nextElementSibling : row.previousElementSibling)?.querySelector(".place a");
  if (link) { event.preventDefault(); link.focus(); }
}

// Escape closes a menu and gives the focus back to what opened it.
function leave(event) {
  const menu = event.key === "Escape" && document.querySelector(".menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
}

showTimes();
showZone();
document.addEventListener("keydown", walk);
document.addEventListener("keydown", leave);
for (const swapped of ["htmx:afterSwap", "htmx:oobAfterSwap"]) document.addEventListener(swapped, () => showTimes());
setInterval(() => { if (!document.hidden) showTimes(); }, 30 * SECOND);
if (document.getElementById("live-state")) follow(showTimes);
