// Asks /status every few seconds and shows what it says. Every text goes in as text, for names come from customers.
"use strict";

const POLL = 2_000;
/** With many connections the answer is large: then less often. */
const POLL_LARGE = 5_000;
const LARGE_BYTES = 200_000;
const POLL_FAILED_MAX = 15_000;
const PATIENCE = 8_000;
const ROWS_AT_ONCE = 50;
const FILTER_FROM = 8;
const COLLAPSING_SHOWN = 3;
const NAMES_SHOWN = 5;
const WORKSPACES_SHOWN = 10;
const KINDS = {
  campaign_id: ["campaign"], canvas_id: ["Canvas", "Canvases"], canvas_step_id: ["Canvas step"], app_group_id: ["app group"],
};
const REASONS = {
  late: "too old", early: "in the future", unrouted: "no connection", timeout: "no answer", connect: "not reached",
  http_400: "400", http_403: "403", http_413: "413", http_429: "429", http_4xx: "other 4xx", http_5xx: "5xx",
  http_unexpected: "not Datadog", shutdown: "at a stop",
};
const BADGES = { flowing: "✓", quiet: "–", trouble: "!", unknown: "?" };
const ORDER = { trouble: 0, quiet: 1, flowing: 2 };

const $ = (id) => document.getElementById(id);
const view = {
  status: null, wantsAll: false, isAsking: false, answeredAt: 0, lookedAt: Date.now(), wait: POLL, failures: 0, timer: 0, rows: ROWS_AT_ONCE, sort: "state", down: false,
  query: "", found: null, isSearching: false, announced: "",
};

// Words.

const whole = new Intl.NumberFormat("en");
const some = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const number = (value) => whole.format(value ?? 0);
const perSecond = (value) => (value < 10 ? some.format(value) : number(Math.round(value)));
const several = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;

function ago(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3_600) return several(Math.floor(seconds / 60), "minute");
  if (seconds < 2 * DAY) return several(Math.floor(seconds / 3_600), "hour");
  return several(Math.floor(seconds / DAY), "day");
}

/** A time as it stands behind "the last". */
function span(seconds) {
  if (seconds < 70) return "minute";
  return seconds % 60 ? `${seconds} s` : `${seconds / 60} minutes`;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; bytes >= 1024 && at < units.length - 1; at += 1) bytes /= 1024;
  return `${some.format(bytes)} ${units[at]}`;
}

const clock = (seconds) => new Date(seconds * 1_000).toLocaleTimeString("en-GB");
const DAY = 86_400;

/** A time of day, with its date where that is not today or nearly so. */
function moment(seconds) {
  const date = new Date(seconds * 1_000);
  const isNear = Date.now() / 1_000 - seconds < DAY / 2;
  return isNear ? clock(seconds) : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${clock(seconds)}`;
}

// The document.

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A name, or the id where there is none that is seen. */
const called = ({ name, id }) => (name ?? "").trim() || id;

/** A name from outside, which may be written from right to left. */
const foreign = (text, attributes = {}) => make("bdi", attributes, text);

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** What each element of a list was made from. */
const contents = new WeakMap();

/** Shows one element per item, in order; those that are there already stay, so that focus and selection do. */
function list(parent, items, key, build) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const content = JSON.stringify(item);
    let child = known.get(name);
    known.delete(name);
    if (!child || contents.get(child) !== content) {
      const fresh = build(item);
      fresh.dataset.key = name;
      contents.set(fresh, content);
      if (child === at) at = fresh;
      if (child) child.replaceWith(fresh);
      child = fresh;
    }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  // What was not asked for any more has been left behind, and with it all but one of several that have the same key.
  while (at) {
    const next = at.nextElementSibling;
    at.remove();
    at = next;
  }
}

const pairs = (parent, items) =>
  list(parent, items.flatMap(([name, value, bad]) => [{ dt: name }, { dd: value, of: name, bad }]),
    (item) => item.dt ?? `${item.of} is`,
    (item) => (item.dt ? make("dt", {}, item.dt) : make("dd", item.bad ? { class: "bad" } : {}, item.dd)));

// Lines.

/** Ends at the right edge, wherever it begins. */
function path(values, width, height, max, closed, step = width / Math.max(1, values.length - 1)) {
  const begin = width - (values.length - 1) * step;
  const points = values.map((value, at) =>
    `${(begin + at * step).toFixed(1)} ${(height - (max ? (value / max) * height : 0)).toFixed(1)}`);
  const line = `M${points.join("L")}`;
  return closed ? `${line}L${width} ${height}L${begin.toFixed(1)} ${height}Z` : line;
}

/** A line only where there is something, and on its way there. */
function gaps(values, width, height, max, step) {
  const begin = width - (values.length - 1) * step;
  let isDrawn = false;
  return values.map((value, at) => {
    const is = value > 0 || values[at - 1] > 0 || values[at + 1] > 0;
    const point = is ? `${isDrawn ? "L" : "M"}${(begin + at * step).toFixed(1)} ${(height - (value / max) * height).toFixed(1)}` : "";
    isDrawn = is;
    return point;
  }).join("");
}

function spark(minutes, words) {
  const max = Math.max(1, ...minutes);
  return draw("svg", { class: "spark", viewBox: "0 -1 120 28", preserveAspectRatio: "none", role: "img", "aria-label": words },
    draw("path", { class: "area", d: path(minutes, 120, 26, max, true) }),
    draw("path", { d: path(minutes, 120, 26, max, false) }));
}

const trend = (minutes) =>
  `by minute: at most ${number(Math.max(...minutes))}, in the last ten minutes ${number(minutes.slice(-10).reduce((a, b) => a + b, 0))}`;

/** The next number above that is easy to read. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 4, 5, 10].map((factor) => factor * power).find((top) => top >= value) ?? value;
}

/** Since when anything is known, where that is less than an hour. */
const sinceStart = ({ uptime_seconds: uptime }) => (uptime < 3_600 ? `since the start ${ago(uptime)} ago` : "");

/** Sends are accepted, or dropped, a flush at a time: three slots on either side make that a line. */
function smooth(values) {
  return values.map((_, at) => {
    const around = values.slice(Math.max(0, at - 3), at + 4);
    return around.reduce((sum, value) => sum + value, 0) / around.length;
  });
}

function showHour({ rates, ...status }) {
  // The slot that is still filling would always hang down, and of those before the start nothing is known.
  const known = Math.max(2, Math.floor(status.uptime_seconds / rates.slot_seconds) + 1);
  const series = (name) => rates[name].slice(-known).slice(0, -1).map((sends) => sends / rates.slot_seconds);
  const counted = series("counted"), [accepted, dropped] = ["accepted", "dropped"].map((name) => smooth(series(name)));
  const top = Math.max(1, ceiling(Math.max(...counted, ...accepted, ...dropped)));
  const total = (name) => (rates[name] ?? []).reduce((sum, sends) => sum + sends, 0);
  const fate = printed({ accepted: total("accepted"), printed: total("printed") }, dryRuns(status));
  const since = sinceStart(status);
  const words = `Sends a second ${since || "over the last hour"}: at most ${perSecond(Math.max(...counted))} counted. ${since ? "Since then" : "In that hour"} ` +
    `${number(total("counted"))} were counted, ${number(total("accepted"))} ${ACCEPTED[fate]}, ${number(total("dropped"))} dropped.`;
  say($("accepted-legend"), ACCEPTED_BY[fate]);
  const W = 720, H = 180, step = W / (rates.counted.length - 2);
  const shape = (name, values, closed) =>
    draw("path", { class: `${closed ? "area" : "line"} ${name}`, d: path(values, W, H, top, closed, step) });
  const svg = draw("svg", { viewBox: `0 -2 ${W} ${H + 4}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
    draw("title", {}, `Counted: every ${rates.slot_seconds} s. Accepted and dropped come a flush at a time: averaged over ${7 * rates.slot_seconds} s.`),
    ...[0, 0.5, 1].map((part) => draw("line", { class: "grid", x1: 0, x2: W, y1: H * part, y2: H * part })),
    shape("accepted", accepted, true), shape("counted", counted, false), shape("accepted", accepted, false));
  if (total("dropped") > 0) svg.append(shape("dropped", dropped, true), draw("path", { class: "line dropped", d: gaps(dropped, W, H, top, step) }));
  const ticks = (name, texts) => make("div", { class: name, "aria-hidden": "true" }, ...texts.map((text) => make("span", {}, text)));
  const times = [60, 45, 30, 15].map((minutes) => clock(rates.end - minutes * 60).slice(0, 5));
  $("chart").replaceChildren(make("div", { class: "plot" },
    ticks("ticks-y", [perSecond(top), perSecond(top / 2), "0"]), svg, ticks("ticks-x", [...times, "now"])));
}

// Parts of the page.

/** Has the headline read out where it says something else: not for a rate, which changes all the time. */
function announce(state, words) {
  if (view.announced === state) return;
  view.announced = state;
  say($("news"), words);
}

function showHead(status) {
  const { state, words, cause, connection } = status.headline;
  set($("hero"), "data-state", state);
  say($("badge"), BADGES[state] ?? "?");
  say($("headline"), words);
  announce(`${state} ${cause ?? ""} ${connection ?? ""}`, words);
  say($("version"), `version ${status.version}`);
  say($("uptime"), `up for ${ago(status.uptime_seconds)}`);
  document.title = `${BADGES[state] ?? "?"} ${words} – braze-datadog`;
  const minute = status.rates.last_minute;
  const fate = printed(minute, dryRuns(status));
  const waiting = status.queue.depth;
  const balanced = status.books.balanced;
  const troubled = status.connections_in_trouble;
  list($("facts"), [
    { value: perSecond(minute.accepted / minute.accepted_seconds), words: fate === "all" ? "printed a second, not sent" : `${ACCEPTED_BY[fate]} a second` },
    { value: number(minute.dropped), words: `dropped in the last ${span(minute.seconds)}`, bad: minute.dropped > 0 },
    { value: waiting ? number(waiting) : "empty", words: waiting ? `${unit(status.queue)} in the queue` : "queue", bad: Boolean(status.queue.trouble) },
    { value: troubled ? number(troubled) : "no", words: troubled ? `of ${several(status.connections_total, "connection")} in trouble` : "connection in trouble", bad: troubled > 0 },
    { value: balanced ? "balanced" : "out of balance", words: "books", bad: !balanced },
  ], (fact) => fact.words.replace(/\d+/g, "n"), (fact) => {
    const value = make("b", {}, fact.value);
    const before = ["books", "queue"].includes(fact.words);
    return make("li", fact.bad ? { class: "bad" } : {}, ...(before ? [`${fact.words} `, value] : [value, ` ${fact.words}`]));
  });
}

/** Why something of the configuration is not in force, and why there is no history: it is told by no connection. */
function showRefusals({ last_reload: reload, history }) {
  const all = [["The configuration was refused", reload.refused_because], ["Files of the push port were refused", reload.push_files_refused_because],
    ["The history of sends is not kept", history?.trouble]].filter(([, why]) => why);
  list($("refusals"), all, ([what]) => what, ([what, why]) => make("li", { class: "sub bad" }, `${what}: `, foreign(why)));
}

/** How many of the connections are dry runs now. */
const dryRuns = ({ connections_dry_run: dry, connections_total: total }) => (!dry ? "none" : dry === total ? "all" : "some");
/** How many of the accepted sends a dry run has printed, for a reload begins and ends one; where there are none yet, what will become of them. */
const printed = (sends, without = "none") => (!sends.accepted ? without : !sends.printed ? "none" : sends.printed >= sends.accepted ? "all" : "some");
const ACCEPTED = { none: "accepted", some: "accepted or printed", all: "printed (dry run)" };
const ACCEPTED_BY = { ...ACCEPTED, none: "accepted by Datadog" };

const UNITS = { kafka: "messages", storage: "objects" };
const QUEUES = { kafka: "Kafka", storage: "buckets" };
const unit = (queue) => UNITS[queue.kind] ?? "events";

function reasons(connection) {
  return Object.entries(connection.dropped_by_reason ?? {})
    .sort((a, b) => b[1] - a[1])
    .map(([reason, sends]) => `${number(sends)} ${REASONS[reason] ?? reason}`)
    .join(", ");
}

/** Names that Datadog can't tell apart: the gravest few, for each of them is a look into Braze. */
function collapsingNotes(connection) {
  const quoted = (texts) => texts.slice(0, NAMES_SHOWN).flatMap((text, at) => [at ? ", " : "", "“", foreign(text), "”"]);
  const shown = (connection.collapsing ?? []).slice(0, COLLAPSING_SHOWN);
  const notes = shown.map((one) => make("p", { class: "note" },
    ...(one.same_name
      ? [several(one.ids_total, ...(KINDS[one.group_by] ?? ["id"])), " called ", ...quoted(one.names), " are added up by name. Group by "]
      : [`Datadog sees ${several(one.names_total ?? one.names.length, "name")} as one, `, foreign(one.tag), ": ", ...quoted(one.names),
        (one.names_total ?? 0) > NAMES_SHOWN ? ", …" : "", ". Group by "]),
    foreign(one.group_by), " instead."));
  const more = (connection.names_collapsing ?? 0) + (connection.names_shared ?? 0) - shown.length;
  if (shown.length && more > 0) notes.push(make("p", { class: "note" }, `And ${several(more, "more name")} that Datadog can't tell apart.`));
  return notes;
}

function connectionRow(connection) {
  const name = make("th", { scope: "row" }, foreign(connection.name),
    make("span", { class: "sub" }, `${connection.site}${connection.dry_run ? ", dry run" : ""}`));
  const outcome = make("td", {}, make("span", { class: `state ${connection.state}` }, connection.words));
  if (connection.refused) outcome.append(make("span", { class: "sub" }, foreign(connection.refused)));
  // What was accepted is no part of the trouble: of a key, a configuration, or sends that are late.
  if (connection.state === "trouble" && connection.last_outcome?.dropped) {
    outcome.append(make("span", { class: "sub" }, foreign(connection.last_outcome.outcome.slice(0, 300))));
  }
  if (connection.key?.state === "invalid") {
    outcome.append(make("span", { class: "sub bad" }, `key: ${connection.key.words}`));
  } else if (connection.key?.words) {
    outcome.append(make("span", { class: "sub" }, `key: ${connection.key.words}`));
  }
  outcome.append(...collapsingNotes(connection));
  const cell = (label, value, bad) =>
    make("td", { class: `number${bad ? " bad" : ""}`, "data-label": label }, number(value));
  const dropped = cell("dropped", connection.dropped, connection.dropped > 0);
  if (connection.dropped) dropped.append(make("span", { class: "sub" }, reasons(connection)));
  const fate = printed(connection, connection.dry_run ? "all" : "none");
  const accepted = cell({ ...ACCEPTED, all: "printed" }[fate], connection.accepted);
  const part = fate === "some" ? `${number(connection.printed)} of them ` : "";
  if (fate !== "none") accepted.append(make("span", { class: "sub" }, `${part}printed, not sent`));
  return make("tr", {}, name, outcome, accepted, dropped,
    cell("pending", connection.pending), cell("series", connection.series));
}

function showConnections(all) {
  const wanted = $("filter").value.trim().toLowerCase();
  const text = (one) => `${one.name} ${one.site} ${one.state} ${one.words}`.toLowerCase();
  const found = all.filter((one) => !wanted || text(one).includes(wanted));
  const value = (one) => (view.sort === "state" ? ORDER[one.state] ?? 1 : one[view.sort]);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  found.sort((a, b) => (view.down ? -1 : 1) * compare(value(a), value(b)) || b.dropped - a.dropped || a.name.localeCompare(b.name));
  const { connections_total: total, connections_in_trouble: troubled } = view.status;
  const unserved = view.status.books.connections?._unrouted?.dropped ?? 0;
  const isPart = all.length < total;
  say($("connections-said"), `${several(total, "connection")}${troubled ? `, ${number(troubled)} in trouble` : ""}` +
    (wanted ? `, ${number(found.length)} shown` : "") +
    (isPart && !wanted ? `; these ${number(all.length)} are those in trouble and the busiest` : "") +
    (unserved ? `; ${several(unserved, "send")} dropped that none of them serves` : ""));
  $("filter-box").hidden = total < FILTER_FROM && !wanted;
  // What does not show is left out, so that a row is made anew only when it looks different.
  const shown = found.slice(0, view.rows).map(({ name, site, dry_run, state, words, refused, last_outcome, key, collapsing, names_collapsing, names_shared, accepted, printed, dropped, dropped_by_reason, pending, series }) =>
    ({ name, site, dry_run, state, words, refused, last_outcome: state === "trouble" && last_outcome?.dropped ? { outcome: last_outcome.outcome, dropped: last_outcome.dropped } : null,
      key: key && { state: key.state, words: key.words }, collapsing: collapsing?.slice(0, COLLAPSING_SHOWN), names_collapsing, names_shared, accepted, printed, dropped, dropped_by_reason, pending, series }));
  list($("connection-rows"), shown, (one) => one.name, connectionRow);
  const left = (isPart && !wanted ? total : found.length) - view.rows;
  $("more").hidden = left <= 0;
  if (left > 0) say($("more"), `Show ${number(Math.min(left, ROWS_AT_ONCE))} more of ${number(left)}`);
}

function busyRow(busy) {
  const details = [busy.canvas.trim(), busy.name.trim() && busy.id, busy.connection].filter(Boolean);
  const sub = make("span", { class: "sub" });
  details.forEach((text, at) => sub.append(at ? " · " : "", foreign(text)));
  return make("tr", {},
    make("th", { scope: "row" }, foreign(called(busy)), sub),
    make("td", { class: "line-cell" }, spark(busy.minutes, trend(busy.minutes))),
    make("td", { class: "number" }, number(busy.sends)));
}

function showBusy(id, busy, none) {
  list($(id), busy.slice(0, 10), (one) => `${one.connection} ${one.id} ${one.name}`, busyRow);
  say($(`${id}-said`), busy.length ? "" : none);
}

function showQueue(queue) {
  const rows = [["kind", QUEUES[queue.kind] ?? "on the local disk"], [`${unit(queue)} waiting`, number(queue.waiting)],
    ["not acknowledged", number(queue.depth)]];
  if (queue.kind === "kafka") {
    rows.push(["lag behind what is committed", several(queue.lag, "message")], ["partitions", number(queue.partitions)],
      ["fetching", queue.paused ? "paused: the pipeline is full" : "runs", queue.paused],
      ["messages the broker threw away", number(queue.messages_lost), queue.messages_lost > 0]);
  } else if (queue.kind === "storage") {
    rows.push(["bytes waiting", size(queue.bytes_waiting)], ["behind the newest object", several(queue.lag_seconds, "second")],
      ["objects counted since the start", number(queue.objects_counted)],
      ["objects left out", number(queue.objects_left_out), queue.objects_left_out > 0],
      ["listings that failed", `${number(queue.listings_failed)} of ${number(queue.listings)}`]);
  } else {
    const full = queue.size_max_bytes ? Math.round((queue.size_bytes / queue.size_max_bytes) * 100) : 0;
    rows.push(["on disk", `${size(queue.size_bytes)} of ${size(queue.size_max_bytes)} (${full} %)`, full > 80],
      ["events lost to damage", number(queue.events_lost), queue.events_lost > 0]);
  }
  if (queue.trouble) rows.push(["trouble", queue.trouble, true]);
  pairs($("queue"), rows);
}

function showBooks(status) {
  list($("invariants"), status.invariants, (one) => one.words, (one) => {
    const sides = one.balanced ? number(one.left) : `${number(one.left)} ≠ ${number(one.right)}`;
    const item = make("li", {}, make("span", { class: `state ${one.balanced ? "flowing" : "trouble"}` },
      `${one.balanced ? "Balances" : "Does not balance"}: ${one.words}`), make("span", { class: "sub" }, sides));
    return item;
  });
  const books = status.books;
  const accepted = ACCEPTED[printed(books, dryRuns(status))];
  pairs($("books"), ["received", "ignored", "malformed", "duplicate", "counted", "accepted", "dropped", "pending"].map((name) =>
    [name === "accepted" ? accepted : name, number(books[name]), books[name] > 0 && ["malformed", "dropped"].includes(name)]));
  const malformed = Object.entries(books.malformed_by_reason ?? {});
  say($("malformed"), malformed.length ? `Malformed: ${malformed.map(([reason, events]) => `${number(events)} ${reason.replaceAll("_", " ")}`).join(", ")}` : "");
}

const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${hundredths.format(Math.abs(value))}`;
const percent = (value) => (value === null || value === undefined ? "" : ` (${signed(value)} %)`);

/** A campaign, a Canvas or a step, in a part of a row. */
function objectName(object, several) {
  const details = make("span", { class: "sub" }, OBJECT_KINDS[object.kind] ?? object.kind,
    ...[object.canvas_name, object.name.trim() && object.id, several && object.connection].filter(Boolean).flatMap((text) => [" · ", foreign(text)]));
  return [foreign(called(object) || "without an id"), details];
}

function workspaceItem({ several, ...one }) {
  const item = make("li", {});
  if (several) item.append(make("b", {}, one.connection ? foreign(one.connection) : "all other connections"), " ");
  item.append(make("span", { class: `state ${one.state}` }, one.words));
  if (one.failed_because) item.append(make("span", { class: "sub bad" }, one.failed_because));
  const sums = one.compared;
  if (sums) {
    item.append(make("span", { class: "sub" }, `${sums.from} to ${sums.to}, days of ${sums.time_zone}: Braze ${number(sums.braze)}, ` +
      `${ACCEPTED_BY[printed(sums)]} ${number(sums.accepted)}, ${signed(sums.difference)}${percent(sums.difference_percent)}`));
  }
  const times = [sums && `compared ${moment(sums.at)}`, one.next_attempt ? `next time ${moment(one.next_attempt)}` : ""].filter(Boolean);
  if (times.length) item.append(make("span", { class: "sub" }, times.join(" · ")));
  return item;
}

function differingRow({ several, ...object }) {
  const cell = (label, text, bad) => make("td", { class: `number${bad ? " bad" : ""}`, "data-label": label }, text);
  const why = make("td", {}, ...object.explanation.map((words) => make("span", { class: "sub" }, words)));
  return make("tr", {}, make("th", { scope: "row" }, ...objectName(object, several)), why,
    cell("Braze", number(object.braze)), cell(ACCEPTED[printed(object)], number(object.accepted)),
    cell("difference", `${signed(object.difference)}${percent(object.difference_percent)}`, !object.within_tolerance));
}

function showReconcile(reconcile) {
  $("reconcile").hidden = !reconcile;
  if (!reconcile) return;
  const several = reconcile.workspaces_total > 1;
  const all = [...reconcile.workspaces].sort((a, b) => (ORDER[a.state] ?? 1) - (ORDER[b.state] ?? 1));
  const shown = all.slice(0, WORKSPACES_SHOWN);
  list($("workspaces"), shown.map((one) => ({ ...one, several })), (one) => one.connection ?? "*", workspaceItem);
  const left = reconcile.workspaces_total - shown.length;
  say($("workspaces-said"), left > 0 ? `And ${number(left)} more of Braze's workspaces; /status?connections=all lists them.` : "");
  const { differing, not_compared: uncompared } = reconcile;
  $("differing").hidden = differing.length === 0;
  const kinds = new Set(differing.map(printed));
  say($("differing-accepted"), { none: "Accepted", all: "Printed" }[kinds.size === 1 ? [...kinds][0] : "some"] ?? "Accepted or printed");
  const key = (one) => `${one.connection ?? "*"} ${one.kind} ${one.id} ${one.canvas_name ?? ""}`;
  list($("differing-rows"), differing.map((one) => ({ ...one, several })), key, differingRow);
  const more = reconcile.differing_total - differing.length;
  say($("differing-said"), more > 0 ? `And ${number(more)} more that differ; braze-datadog reconcile tells all of them.` : "");
  list($("not-compared"), uncompared.map((one) => ({ ...one, several })), key, (one) => make("li", {},
    make("span", { class: "name" }, ...objectName(one, several)), make("span", {}, `${number(one.counted)} counted`),
    make("span", { class: "wide sub" }, `not compared: ${one.reason}`)));
  const unasked = reconcile.not_compared_total - uncompared.length;
  say($("not-compared-said"), unasked > 0 ? `And ${number(unasked)} more that could not be compared, or not on all days.` : "");
}

function show(status) {
  showHead(status);
  showRefusals(status);
  showHour(status);
  showConnections(status.connections);
  const lately = sinceStart(status) || "in the last hour";
  showBusy("campaigns", status.busiest.campaigns, `No campaign has sent ${lately}.`);
  showBusy("steps", status.busiest.steps, `No Canvas step has sent ${lately}.`);
  showReconcile(status.reconcile);
  showQueue(status.queue);
  showBooks(status);
  pairs($("configuration"), status.configuration.map(({ key, value }) => [key, value || "none"]));
}

// Search.

const named = (result, key) => result.tags.find((tag) => tag.startsWith(`${key}:`))?.slice(key.length + 1).trim() || undefined;

function resultItem(result) {
  const title = [named(result, "canvas_name"), named(result, "canvas_step_name") ?? named(result, "canvas_step_id"),
    named(result, "campaign_name") ?? named(result, "campaign_id")].filter(Boolean);
  const name = make("span", { class: "name" });
  (title.length ? title : [result.tags[0] ?? "no tags"]).forEach((text, at) => name.append(at ? " › " : "", foreign(text)));
  const item = make("li", {}, name, make("span", {}, several(result.sends, "send")),
    make("span", { class: "wide" }, make("span", { class: `state ${result.state}` }, result.words)),
    make("span", { class: "wide sub" }, `last send ${moment(result.last_send)} (${ago(result.last_send_seconds_ago)} ago) · connection `, foreign(result.connection)),
    make("span", { class: "wide tags" }, ...result.tags.map((tag) => foreign(tag, { class: "tag" }))));
  return item;
}

const OBJECT_KINDS = { campaign: "campaign", canvas: "Canvas", step: "Canvas step" };
/** Days before the history began have no counts. */
const isKnown = (day) => day.counted !== null;
const fate = (day) => {
  const dropped = Object.values(day.dropped).reduce((sum, sends) => sum + sends, 0);
  return { counted: day.counted, printed: day.printed, dropped, open: Math.max(0, day.counted - day.accepted - day.printed - dropped) };
};
const weekday = (day) => new Date(`${day}T12:00:00Z`).toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });

/** What a day of the chart says in words. */
function dayWords(day) {
  const { counted, printed, dropped, open } = fate(day);
  return `${weekday(day.day)}: ${several(counted, "send")}${printed ? `, ${number(printed)} printed, not sent` : ""}${dropped ? `, ${number(dropped)} dropped` : ""}${open ? `, ${number(open)} without outcome` : ""}`;
}

/** A bar for each day: what was accepted, and above it what was not. */
function dayBars(days) {
  const W = 280, H = 40, width = W / days.length;
  const max = Math.max(1, ...days.map((day) => day.counted));
  const sent = days.filter((day) => day.counted > 0);
  const unknown = days.length - days.filter(isKnown).length;
  const words = (sent.length ? `The last ${days.length} days: ${sent.map(dayWords).join("; ")}.` : `No sends in the last ${days.length} days.`) +
    (unknown ? ` Nothing is known of ${several(unknown, "day")} of them.` : "");
  const bars = days.flatMap((day, at) => {
    if (!isKnown(day)) {
      return draw("rect", { class: "unknown", x: (at * width).toFixed(1), y: 0, width: width.toFixed(1), height: H },
        draw("title", {}, `${weekday(day.day)}: before the history began, nothing is known`));
    }
    const { counted, dropped, open } = fate(day);
    let top = H;
    return [["accepted", counted - dropped - open], ["counted", open], ["dropped", dropped]].filter(([, sends]) => sends > 0).map(([name, sends]) => {
      const height = Math.max(1.5, (sends / max) * H);
      top -= height;
      return draw("rect", { class: name, x: (at * width + 1).toFixed(1), y: top.toFixed(1), width: (width - 2).toFixed(1), height: height.toFixed(1) },
        draw("title", {}, dayWords(day)));
    });
  });
  return draw("svg", { class: "days", viewBox: `0 -4 ${W} ${H + 4}`, preserveAspectRatio: "none", role: "img", "aria-label": words }, ...bars);
}

function pastItem(object) {
  const name = make("span", { class: "name" });
  [object.canvas_name.trim(), called(object)].filter(Boolean).forEach((text, at) => name.append(at ? " › " : "", foreign(text)));
  const details = make("span", { class: "wide sub" }, `${OBJECT_KINDS[object.kind] ?? object.kind} · `, ...(object.name.trim() && object.id ? [foreign(object.id), " · "] : []), "connection ", foreign(object.connection));
  return make("li", {}, name, details,
    make("span", { class: "wide" }, make("span", { class: `state ${object.state}` }, object.words)),
    make("span", { class: "wide sub" }, object.comparison),
    make("span", { class: "wide" }, dayBars(object.days)));
}

function showPast(found) {
  const objects = found.objects ?? [];
  const left = found.objects_total - objects.length;
  let words = "";
  if (found.history_since) words = objects.length ? `By day, last 28 days; known since ${moment(found.history_since)}` : "";
  if (left > 0) words += `; ${several(left, "more object matches", "more objects match")}`;
  if (found.history_trouble) words = found.history_trouble;
  say($("past-said"), words);
  // How long ago something was changes all the time, and is not shown.
  const shown = objects.map(({ last_send_seconds_ago, ...object }) => object);
  list($("past"), shown, (object) => `${object.connection} ${object.kind} ${object.id} ${object.canvas_name} ${object.name}`, pastItem);
}

/** Days are those of whoever looks, unless the forwarder does not know that time zone. */
async function ask(query) {
  const asked = `search?q=${encodeURIComponent(query)}`;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const answer = await fetch(`${asked}&time_zone=${encodeURIComponent(zone || "UTC")}`, { signal: AbortSignal.timeout(PATIENCE) });
  return answer.status === 400 ? fetch(asked, { signal: AbortSignal.timeout(PATIENCE) }) : answer;
}

function showSearch(found) {
  const { matches, results } = found;
  const left = matches - results.length;
  const since = `since ${moment(found.since)}`;
  let words = `${several(matches, "series", "series")} of ${number(found.remembered_series)} remembered ${since}`;
  if (!matches) words = found.remembered_series ? `None of the ${several(found.remembered_series, "series", "series")} remembered ${since} has these words in its tags.` : `No series is remembered ${since} yet.`;
  if (!matches) words += ` The latest are remembered; what is dropped as too old or too far ahead has no series.${found.objects?.length ? " By day:" : ""}`;
  else if (left > 0) words += `; the ${results.length} nearest are shown`;
  if (found.left_out_series) words += ` ${several(found.left_out_series, "series", "series")} of the last flush could not be remembered.`;
  say($("search-said"), words);
  showPast(found);
  list($("results"), results, (result) => `${result.connection} ${result.tags.join(" ")}`, resultItem);
}

/** Searches for what is typed: one at a time, for a forwarder that is slow to answer, and what is typed meanwhile next. */
async function search() {
  const query = $("search").value.trim();
  if (query !== view.query && query !== view.found) {
    // Nothing stands under a query that is not its own.
    view.found = null;
    say($("search-said"), query ? "Searching …" : "");
    say($("past-said"), "");
    $("past").replaceChildren();
    $("results").replaceChildren();
  }
  view.query = query;
  if (!query || view.isSearching) return;
  view.isSearching = true;
  try {
    const answer = await ask(query);
    if (!answer.ok) throw new Error(await answer.text());
    const found = await answer.json();
    // An answer to what was asked before comes too late.
    if (view.query === query) {
      showSearch(found);
      view.found = query;
    }
  } catch {
    if (view.query === query) say($("search-said"), "The search had no answer; it is tried again.");
  }
  view.isSearching = false;
  if (view.query !== query) search();
}

// Asking.

function showFreshness() {
  const fresh = $("fresh");
  // Whoever comes back to the page is not told of the time in which nobody looked.
  const silence = Date.now() - Math.max(view.answeredAt, view.lookedAt);
  const stale = view.failures > 0 || (!document.hidden && silence > 3 * view.wait);
  fresh.classList.toggle("stale", stale);
  if (!stale) {
    say(fresh, document.hidden ? "paused" : "live");
    return;
  }
  say(fresh, view.answeredAt ? `no answer for ${ago((Date.now() - view.answeredAt) / 1_000)}` : "no answer yet");
  // One answer may be lost; two are news.
  if (view.failures < 2) return;
  set($("hero"), "data-state", "unknown");
  say($("badge"), BADGES.unknown);
  say($("headline"), "The forwarder does not answer");
  announce("no answer", "The forwarder does not answer");
  document.title = "? no answer – braze-datadog";
}

async function poll() {
  clearTimeout(view.timer);
  if (view.isAsking) return;
  view.isAsking = true;
  let wait = POLL;
  try {
    const answer = await fetch(view.wantsAll ? "status?connections=all" : "status", { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const text = await answer.text();
    view.status = JSON.parse(text);
    view.answeredAt = Date.now();
    view.failures = 0;
    show(view.status);
    // Not waited for: it may read a disk that hangs.
    if (view.query) search();
    if (text.length > LARGE_BYTES) wait = POLL_LARGE;
    view.wait = wait;
  } catch (error) {
    view.failures += 1;
    wait = Math.min(POLL * 2 ** view.failures, POLL_FAILED_MAX);
    if (!(error instanceof TypeError || error instanceof DOMException)) console.error(error);
  }
  view.isAsking = false;
  showFreshness();
  // Nobody looks: asking goes on when somebody does.
  if (!document.hidden) view.timer = setTimeout(poll, wait);
}

function sortBy(heading) {
  const key = heading.dataset.sort;
  const numbers = !["name", "state"].includes(key);
  view.down = view.sort === key ? !view.down : numbers;
  view.sort = key;
  for (const other of document.querySelectorAll("th[data-sort]")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", view.down ? "descending" : "ascending");
  askForAll();
  if (view.status) showConnections(view.status.connections);
}

/** Of many connections an answer lists those that need a look; whoever filters, sorts or wants more is shown all. */
function askForAll() {
  if (view.wantsAll || !view.status || view.status.connections.length === view.status.connections_total) return;
  view.wantsAll = true;
  poll();
}

function start() {
  let typed = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(search, 250);
  });
  $("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  $("filter").addEventListener("input", () => {
    askForAll();
    if (view.status) showConnections(view.status.connections);
  });
  $("more").addEventListener("click", () => {
    view.rows += ROWS_AT_ONCE;
    askForAll();
    showConnections(view.status.connections);
  });
  for (const heading of document.querySelectorAll("th[data-sort]")) {
    heading.querySelector("button").addEventListener("click", () => sortBy(heading));
  }
  document.addEventListener("visibilitychange", () => {
    view.lookedAt = Date.now();
    if (!document.hidden) poll();
    showFreshness();
  });
  setInterval(showFreshness, 1_000);
  poll();
}

start();
