// The live tail: rows come as JSON and are shown by textContent alone.
//
// A tab that is hidden holds no connection. Of those that are seen at once at most STREAMS do, because a browser opens six to
// a host over HTTP/1.1; further ones, and those that the server does not take, ask every two seconds.
const KEPT = 200, STREAMS = 3, POLL = 2000, AGAIN = 30000, SAY = 10000; // rows, streams, then ms

export function follow(showTimes) {
  const live = document.getElementById("live"), state = document.getElementById("live-state");
  const pause = document.getElementById("live-pause"), fresh = document.getElementById("live-new");
  const dropped = document.getElementById("live-dropped"), blank = document.getElementById("row");
  const words = live.dataset, news = document.getElementById("news");
  let unsaid = 0, saying = 0;
  let results, source = null, release = null, timer = 0, turn = 0;
  let after = "", waiting = [], missed = 0, paused = false, lost = 0, how = "away";

  const count = (text, number) => text.replace("{n}", number.toLocaleString(document.documentElement.lang || undefined));
  const isAway = () => paused || window.scrollY > 120;

  function tell(next = how) {
    how = next;
    live.dataset.state = paused ? "paused" : how === "away" ? "away" : "live";
    const text = paused ? words.paused : { live: words.live, asking: words.asking, away: words.away }[how];
    const more = paused && missed ? ` · ${count(words.new, missed)}` : "";
    if (state.textContent !== text + more) state.textContent = text + more;
    fresh.hidden = !missed || paused;
    fresh.textContent = count(words.new, missed);
    dropped.hidden = !lost;
    if (lost) dropped.textContent = count(words.dropped, lost);
  }

  function size(bytes) {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
    let number = bytes, unit = 0;
    while (number >= 1024 && unit < 3) { number /= 1024; unit += 1; }
    const style = { style: "unit", unit: units[unit], unitDisplay: unit ? "short" : "long", maximumFractionDigits: unit ? 1 : 0 };
    return new Intl.NumberFormat(document.documentElement.lang || undefined, style).format(number);
  }

  function put(cell, selector, text) {
    const element = cell.querySelector(selector);
    if (text === null) element.remove(); else element.textContent = text;
  }

  function build(message) {
    const row = blank.content.firstElementChild.cloneNode(true);
    const cell = (name) => row.querySelector(`.${name}`);
    row.id = `m-${message.position}-${message.offset}`;
    row.className = "fresh";
    cell("time").firstElementChild.dateTime = new Date(message.stored).toISOString();
    const [topic, id] = [message.topic, message.topic_id].map(encodeURIComponent);
    row.querySelector("a").href = `${results.dataset.base}/${topic}/${message.partition}/${message.offset}?topic_id=${id}`;
    put(row, ".topic", message.topic);
    put(row, ".partition", message.partition);
    put(row, ".offset", message.offset);
    put(cell("key"), "code", message.key ? message.key.text : null);
    if (message.key) put(cell("key"), ".none", null);
    const value = message.value;
    put(cell("value"), "code", value ? value.text + (value.cut ? "…" : "") : null);
    if (value) put(cell("value"), ".badge:not(.binary)", null);
    if (!value?.binary) put(cell("value"), ".binary", null);
    const list = cell("headers");
    list.replaceChildren();
    const item = (tag, text) => { const made = document.createElement(tag); made.textContent = text; return made; };
    for (const header of message.headers ?? []) {
      const line = document.createElement("li");
      line.append(item("code", `${header.name}: ${header.value ?? "null"}`));
      list.append(line);
    }
    if (message.more_headers) list.append(item("li", `+${message.more_headers}`));
    cell("size").textContent = value ? size(value.size) : "";
    return row;
  }

  function show() {
    const rows = document.getElementById("rows"), made = document.createDocumentFragment();
    for (const message of waiting.reverse()) {
      if (!document.getElementById(`m-${message.position}-${message.offset}`)) made.append(build(message));
    }
    waiting = []; missed = 0;
    if (made.childElementCount) {
      showTimes(made);
      rows.prepend(made);
      while (rows.childElementCount > KEPT) rows.lastElementChild.remove();
      rows.closest(".table").hidden = false;
      document.getElementById("nothing")?.remove();
    }
    tell();
  }

  // To who does not see them, new rows are told of as a number, and not more often than can be listened to.
  function say(number = 0) {
    unsaid += number;
    if (saying || !unsaid || paused) return; // while paused #live-state counts
    news.textContent = count(words.new, unsaid);
    unsaid = 0;
    saying = setTimeout(() => { saying = 0; say(); }, SAY);
  }

  function take(messages, place) {
    after = place || after;
    if (!messages.length) return;
    const seen = (message) => document.getElementById(`m-${message.position}-${message.offset}`);
    const unseen = messages.filter((message) => !seen(message));
    waiting = waiting.concat(unseen).slice(-KEPT);
    missed += unseen.length;
    say(unseen.length);
    if (isAway()) tell(); else show();
  }

  function address(more) {
    const parameters = new URLSearchParams(results.dataset.address);
    for (const [name, value] of Object.entries({ after, ...more })) parameters.set(name, value);
    return `${results.dataset.events}?${parameters}`;
  }

  function lose(number) { lost += number; tell(); }

  function stream() {
    source = new EventSource(address({}));
    source.onopen = () => tell("live");
    source.addEventListener("place", (event) => { after = event.lastEventId || after; });
    source.addEventListener("messages", (event) => take(JSON.parse(event.data), event.lastEventId));
    source.addEventListener("dropped", (event) => lose(JSON.parse(event.data).count));
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) { stop(); ask(Date.now() + AGAIN); } else tell("away");
    };
  }

  async function ask(until) {
    const mine = turn;
    if (Date.now() > until) { start(); return; }
    try {
      const answer = await fetch(address({ poll: 1 }), { headers: { Accept: "application/json" } });
      if (mine !== turn) return;
      if (answer.status === 401 || answer.status === 403) { tell("away"); return; } // logged out: nothing more to ask
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      if (mine !== turn) return;
      tell("asking");
      if (news.dropped) lose(news.dropped);
      take(news.messages, news.after);
    } catch { if (mine === turn) tell("away"); }
    if (mine === turn) timer = setTimeout(ask, POLL, until);
  }

  function stop() {
    turn += 1;
    clearTimeout(timer);
    source?.close();
    source = null;
    release?.();
    release = null;
  }

  // One of the browser's few places for a stream, held until `release` is called; without locks (no HTTPS) there is no count.
  async function place() {
    if (!navigator.locks) return true;
    for (let number = 0; number < STREAMS; number += 1) {
      const held = await new Promise((answer) => {
        navigator.locks.request(`tkcons-stream-${number}`, { ifAvailable: true }, (lock) => {
          if (!lock) { answer(null); return undefined; }
          return new Promise((done) => answer(done));
        });
      });
      if (held) return held;
    }
    return null;
  }

  async function start() {
    stop();
    if (document.hidden || live.hidden) return;
    const mine = turn, held = await place();
    if (mine !== turn) { if (typeof held === "function") held(); return; }
    if (held) { release = held === true ? null : held; stream(); } else ask(Infinity);
  }

  function begin() {
    stop();
    results = document.getElementById("results");
    after = results.dataset.after ?? "";
    waiting = []; missed = 0; lost = 0;
    live.hidden = !("after" in results.dataset); // older pages stay as they are
    tell("away");
    start();
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? words.resume : words.pause;
    if (paused) tell(); else show();
  });
  fresh.addEventListener("click", () => { window.scrollTo({ top: 0 }); show(); });
  window.addEventListener("scroll", () => { if (missed && !isAway()) show(); }, { passive: true });
  document.addEventListener("visibilitychange", start);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) start(); });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.id !== "results" && results.isConnected) return;
    begin();
    news.textContent = results.dataset.said;
    if (document.activeElement === document.body) results.focus({ preventScroll: true }); // the link that was followed is gone
  });
  // What the server refuses is a page of its own, which says why.
  document.addEventListener("htmx:responseError", (event) => location.assign(event.detail.pathInfo.finalRequestPath));
  begin();
}
