// Puts a working day's numbers into what the forwarder has told, and lets the page ask for that.
const told = "$STATUS";
const wave = (at, low, high, seed) => {
  const x = Math.sin(at * 0.021 + seed) * 0.5 + Math.sin(at * 0.073 + seed * 3) * 0.22 + Math.sin(at * 1.7 + seed * 7) * 0.05;
  return Math.max(0, Math.round(low + (high - low) * (x + 0.62)));
};
const counted = Array.from({ length: 360 }, (_, at) => wave(at, 9_000, 29_000, 1) + (at > 130 && at < 190 ? 21_000 * Math.sin((at - 130) / 60 * Math.PI) | 0 : 0));
const dropped = counted.map((sends, at) => (at > 236 && at < 249 ? Math.round(sends * 0.22) : 0));
const accepted = counted.map((sends, at) => sends - dropped[at]);
const sum = (values) => values.reduce((a, b) => a + b, 0);
const minutes = (low, high, seed) => Array.from({ length: 60 }, (_, at) => wave(at * 6, low, high, seed));
const busy = (id, name, canvas, connection, shape) => ({ id, name, canvas, connection, minutes: shape, sends: sum(shape) });
const burst = (from, to, height) => Array.from({ length: 60 }, (_, at) => (at >= from && at < to ? Math.round(height * Math.sin((at - from + 1) / (to - from + 1) * Math.PI)) : 0));
const connection = (name, site, total, { dropped = 0, ...more } = {}) => ({
  name, site, url: "", metric: "braze.messaging.sent", dry_run: false, app_group_ids: [], state: "flowing", words: "accepted 2 s ago",
  last_outcome: null, series: Math.round(total / 90_000), counted: total, accepted: total - dropped - Math.round(total / 41_000), dropped, dropped_by_reason: {}, pending: Math.round(total / 41_000), ...more,
});
const total = 48_211_904;
const connections = [
  connection("apac", "AP1", 6_120_447, { key: { state: "valid", words: "valid on AP1", seconds_ago: 900 } }),
  connection("emea", "EU1", 24_806_112, { key: { state: "valid", words: "valid on EU1", seconds_ago: 900 }, dropped: 212, dropped_by_reason: { late: 212 } }),
  connection("latam", "US5", 3_904_871, { key: { state: "valid", words: "valid on US5", seconds_ago: 900 } }),
  connection("north_america", "US1", 13_380_474, { key: { state: "valid", words: "valid on US1", seconds_ago: 900 }, dropped: 50_024, dropped_by_reason: { timeout: 48_120, http_5xx: 1_904 } }),
];
const of = (name) => sum(connections.map((one) => one[name]));
Object.assign(told, {
  uptime_seconds: 6 * 86_400 + 4_000,
  headline: { state: "flowing", words: "Sends flow: 3,412 a second" },
  rates: { ...told.rates, counted, accepted, dropped, last_minute: { seconds: 62, accepted_seconds: 62, counted: 211_544, accepted: 210_980, dropped: 0 }, last_send_seconds_ago: 0 },
  queue: { kind: "embedded", depth: 1_204, size_bytes: 61_203_968, size_max_bytes: 4 * 2 ** 30, events_lost: 0, trouble: null },
  connections,
  connections_total: connections.length,
  connections_in_trouble: 0,
  connections_dry_run: 0,
  busiest: {
    campaigns: [
      busy("8a3f21c07d", "Weekly newsletter", "", "emea", burst(20, 33, 92_000)),
      busy("51be90aa42", "Order confirmation", "", "north_america", minutes(5_200, 7_600, 2)),
      busy("c4470d19e3", "Black Friday early access", "", "emea", burst(8, 50, 9_100)),
      busy("0e7721fb65", "Password reset", "", "emea", minutes(900, 1_500, 5)),
      busy("77d0a3bb18", "Relance panier abandonné", "", "apac", minutes(500, 1_300, 8)),
    ],
    steps: [
      busy("s-119", "Welcome e-mail", "Onboarding", "emea", minutes(2_900, 4_700, 3)),
      busy("s-120", "Day 3: first order", "Onboarding", "emea", minutes(1_300, 2_400, 4)),
      busy("s-877", "Reminder after 4 hours", "Abandoned cart", "north_america", minutes(1_100, 1_900, 6)),
      busy("s-878", "Push: price dropped", "Abandoned cart", "north_america", burst(30, 58, 2_100)),
      busy("s-230", "Tier upgrade", "Loyalty", "latam", minutes(80, 260, 9)),
    ],
  },
  books: { ...told.books, received: 71_530_118, ignored: 23_310_402, malformed: 11, duplicate: 7_801, counted: total, accepted: of("accepted"), dropped: of("dropped"), pending: of("pending"), balanced: true },
  invariants: [
    { words: "received = ignored + malformed + duplicate + counted", left: 71_530_118, right: 71_530_118, balanced: true },
    { words: "counted = accepted + dropped + pending", left: total, right: total, balanced: true },
  ],
});
const found = {
  matches: 1, remembered_series: 1_874, left_out_series: 0, since: told.now - 6 * 86_400, results: [{
    connection: "emea", sends: 1_204_331, last_send: told.now - 6, last_send_seconds_ago: 6, state: "flowing", words: "reaches Datadog: accepted 2 s ago",
    tags: ["app_group_id:0d6c8a4e", "app_group_name:EMEA", "campaign_id:8a3f21c07d", "campaign_name:Weekly newsletter"], minutes: null,
  }],
};
const days = Array.from({ length: 28 }, (_, at) => {
  const day = new Date((told.now - (27 - at) * 86_400) * 1_000).toISOString().slice(0, 10);
  const counted = at % 7 === 6 ? 1_180_000 + at * 900 : 0;
  return { day, counted, accepted: counted, dropped: 0 };
});
Object.assign(found, {
  history_since: told.now - 90 * 86_400, history_trouble: null, objects_total: 1, objects: [{
    kind: "campaign", connection: "emea", id: "8a3f21c07d", name: "Weekly newsletter", canvas_name: "", last_send: told.now - 6,
    last_send_seconds_ago: 6, state: "flowing", words: "sent 6 s ago, reaches Datadog", comparison: "1,204,300 today, 1,198,000 a week before", days,
  }],
});
window.fetch = async (url) => new Response(JSON.stringify(/search\?/.test(String(url)) ? found : told));
const box = document.querySelector("#search");
box.value = "weekly newsletter";
box.dispatchEvent(new Event("input"));
