//! The page at `/` of the admin port, as people see it: the real binary, a fake intake, real events, and Chromium.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod answers;
mod axe;
mod browser;
mod golden;
mod proxy;
#[path = "../support/rig.rs"]
mod support;

use std::fs;
use std::path::Path;

use browser::{Browser, TAB};
use proxy::Proxy;
use serde_json::{Value, json};
use support::analytics::{REST_KEY, ScriptedBraze, keep_history};
use support::children;
use support::forwarder::{Configuration, Forwarder};
use support::intake::{Behaviour, Intake};

/// A push of so many sends of one campaign, `age` seconds old; `mark` makes the ids differ from other pushes.
fn sends(mark: &str, app_group: &str, count: usize, age: u64, properties: &Value) -> String {
    let event = |number| {
        let mut all = properties.clone();
        all["app_group_id"] = json!(app_group);
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("{mark}-{number}"),
            "time": support::unix_now() - age,
            "user": {"user_id": "someone"},
            "properties": all,
        })
    };
    json!({ "events": (0..count).map(event).collect::<Vec<_>>() }).to_string()
}

fn campaign(id: &str, name: &str) -> Value {
    json!({"campaign_id": id, "campaign_name": name})
}

fn step(canvas: &str, id: &str, name: &str) -> Value {
    json!({"canvas_id": format!("canvas-{canvas}"), "canvas_name": canvas, "canvas_step_id": id, "canvas_step_name": name})
}

/// Looks for whatever is left of a page's violations of its own rules.
async fn assert_clean(browser: &Browser, forwarder: &Forwarder) {
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
    let requests = browser.requests().await;
    let own = forwarder.admin_url("/");
    let foreign: Vec<&String> =
        requests.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(foreign.is_empty(), "asked outside: {foreign:#?}");
    assert!(requests.iter().any(|url| url.ends_with("/status")), "{requests:#?}");
}

#[tokio::test]
async fn one_look_says_that_sends_flow_and_a_search_says_where_a_campaign_is() {
    let intake = Intake::start();
    let forwarder = Configuration::new()
        .connection("acme", &intake.url(), "key", &[])
        .set("tags.static", "[\"env:prod\"]")
        .start()
        .await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#headline", "No sends since the start").await;
    assert_eq!(browser.text("return document.querySelector('#hero').dataset.state").await, "quiet");

    // Nobody reloads the page: it sees by itself what comes.
    forwarder.push_accepted(sends("a", "emea", 100, 0, &campaign("8a3f21", "Weekly newsletter"))).await;
    forwarder.push_accepted(sends("b", "emea", 40, 0, &step("Onboarding", "step-1", "Welcome mail"))).await;
    intake.wait_for_sends(140).await;
    browser.shows("#headline", "Sends flow: ").await;
    assert_eq!(browser.text("return document.querySelector('#hero').dataset.state").await, "flowing");
    let row = browser.shows("#connection-rows", "accepted ").await;
    assert!(row.contains("acme") && row.contains("140"), "{row}");
    assert!(browser.shows("#campaigns", "Weekly newsletter").await.contains("100"));
    assert!(browser.shows("#steps", "Welcome mail").await.contains("Onboarding"));
    browser.shows("#invariants", "Balances: received = ignored").await;
    assert!(browser.seen("#version").await.contains(env!("CARGO_PKG_VERSION")));
    assert!(browser.seen("#uptime").await.contains("up for"));
    let line = browser.text("return document.querySelector('#chart svg').getAttribute('aria-label')").await;
    assert!(line.contains("140 were counted"), "{line}");

    for query in ["weekly", "8A3F21", "weekly_newsletter"] {
        let typed = format!(
            "const box = document.querySelector('#search'); box.value = {query:?}; \
             box.dispatchEvent(new Event('input')); document.querySelector('#results').replaceChildren();"
        );
        browser.run(&typed).await;
        let found = browser.shows("#results", "reaches Datadog: accepted").await;
        for told in [
            "Weekly newsletter",
            "100 sends",
            "last send ",
            "campaign_id:8a3f21",
            "env:prod",
            "app_group_id:emea",
        ] {
            assert!(found.contains(told), "{told} is not in {found}");
        }
        assert!(!found.contains("Welcome mail"), "{found}");
    }
    browser.run("const box = document.querySelector('#search'); box.value = 'monthly'; box.dispatchEvent(new Event('input'))").await;
    browser.shows("#search-said", "None of the 2 series remembered since").await;
    browser.run("document.querySelector('details').open = true").await;
    assert!(browser.shows("#configuration", "flush.interval").await.contains("env:prod"));
    browser.run("const box = document.querySelector('#search'); box.value = 'weekly'; box.dispatchEvent(new Event('input'))").await;
    let past = browser.shows("#past", "all accepted by Datadog").await;
    for told in
        ["Weekly newsletter", "last sent ", "100 sends that day", "last 7 days 100", "campaign · 8a3f21"]
    {
        assert!(past.contains(told), "{told} is not in {past}");
    }
    let days = browser.text("return document.querySelector('#past svg').getAttribute('aria-label')").await;
    assert!(days.starts_with("The last 28 days: ") && days.contains(": 100 sends"), "{days}");
    assert_clean(&browser, &forwarder).await;
}

#[tokio::test]
async fn a_dry_run_is_never_said_to_reach_datadog() {
    let forwarder = Configuration::new()
        .connection("acme", "http://127.0.0.1:9", "key", &[])
        .set("connections.acme.dry_run", "true")
        .start()
        .await;
    forwarder.push_accepted(sends("a", "emea", 30, 0, &campaign("8a3f21", "Weekly newsletter"))).await;
    forwarder.settled(30).await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#accepted-legend", "printed (dry run)").await;
    browser.shows("#connection-rows", "printed, not sent").await;
    browser.run("const box = document.querySelector('#search'); box.value = 'weekly'; box.dispatchEvent(new Event('input'))").await;
    browser.shows("#results", "dry run: printed, not sent").await;
    let page = browser.seen("#main").await.to_lowercase().replace("0 accepted by datadog", "");
    assert!(!page.contains("accepted by datadog") && !page.contains("reaches datadog"), "{page}");
    assert_clean(&browser, &forwarder).await;
}

#[tokio::test]
async fn below_the_path_of_a_proxy_the_page_looks_and_works_the_same() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let admin = forwarder.admin_url("");
    let proxy = Proxy::before(admin.strip_prefix("http://").unwrap().parse().unwrap()).await;
    let browser = Browser::start().await;
    browser.open(&proxy.url()).await;
    browser.shows("#headline", "No sends since the start").await;
    forwarder.push_accepted(sends("a", "emea", 100, 0, &campaign("8a3f21", "Weekly newsletter"))).await;
    browser.shows("#headline", "Sends flow: ").await;
    browser.run("const box = document.querySelector('#search'); box.value = 'weekly'; box.dispatchEvent(new Event('input'))").await;
    assert!(browser.shows("#results", "reaches Datadog: accepted").await.contains("Weekly newsletter"));
    let requests = browser.requests().await;
    let outside: Vec<&String> =
        requests.iter().filter(|url| !url.starts_with(&proxy.url()) && !url.starts_with("data:")).collect();
    assert!(outside.is_empty(), "asked beside the prefix: {outside:#?}");
    for name in ["page.css", "page.js", "icon.svg", "status", "search?q=weekly"] {
        assert!(requests.iter().any(|url| url.contains(name)), "{name}: {requests:#?}");
    }
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[tokio::test]
async fn what_is_lost_is_told_in_words_with_its_reasons() {
    let (good, bad) = (Intake::start(), Intake::start());
    bad.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    let forwarder = Configuration::new()
        .connection("acme", &good.url(), "key", &["one"])
        .connection("beta", &bad.url(), "key", &["two"])
        .start()
        .await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    forwarder.push_accepted(sends("a", "one", 30, 0, &campaign("1", "Good"))).await;
    forwarder.push_accepted(sends("b", "two", 20, 0, &campaign("2", "Bad"))).await;
    forwarder.push_accepted(sends("c", "one", 7, 3 * 3600, &campaign("1", "Good"))).await;
    forwarder.push_accepted(sends("d", "nobody", 1, 0, &campaign("3", "Unserved"))).await;
    forwarder.settled(58).await;

    browser
        .shows(
            "#headline",
            "Sends of beta are being dropped: HTTP 403 (API key refused); and 2 more problems",
        )
        .await;
    assert_eq!(browser.text("return document.querySelector('#hero').dataset.state").await, "trouble");
    let first = browser.shows("#connection-rows tr", "403: this key is not valid on").await;
    assert!(first.contains("beta") && first.contains("20 403") && first.contains("Forbidden"), "{first}");
    assert!(browser.seen("#connection-rows").await.contains("7 too old"));
    assert!(browser.seen("#connections-said").await.contains("1 send dropped that none of them serves"));
    browser.run("const box = document.querySelector('#search'); box.value = 'bad'; box.dispatchEvent(new Event('input'))").await;
    let found = browser.shows("#results", "does not reach Datadog: 403").await;
    assert!(found.contains("never accepted since the start"), "{found}");

    // The key is good again; whoever looks sees that, too.
    bad.always(Behaviour::Accept);
    forwarder.push_accepted(sends("e", "two", 20, 0, &campaign("2", "Bad"))).await;
    browser.shows("#results", "reaches Datadog: accepted").await;
    assert_clean(&browser, &forwarder).await;
}

#[tokio::test]
async fn names_from_outside_are_text() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let long = "W".repeat(400);
    let names = [
        "<img src=x onerror=\"document.title='owned'\">",
        "</script><script>document.title='owned'</script>",
        "\u{202e}txet desrever\u{202c} שלום",
        "{{constructor.constructor('document.title=1')()}}",
        "line\nbreak & \"quotes\" 'and' `ticks`",
        &long,
    ];
    for (number, name) in names.iter().enumerate() {
        let id = format!("hostile-{number}");
        forwarder.push_accepted(sends(&id, "<b>group</b>", 3, 0, &campaign(&id, name))).await;
    }
    intake.wait_for_sends(18).await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#campaigns", "<img src=x onerror=").await;
    browser.run("const box = document.querySelector('#search'); box.value = 'hostile'; box.dispatchEvent(new Event('input'))").await;
    let found = browser.shows("#results", "</script><script>").await;
    for shown in
        ["<img src=x onerror=\"document.title='owned'\">", "שלום", "app_group_id:<b>group</b>", &long[..180]]
    {
        assert!(found.contains(shown), "{shown} is not in {found}");
    }
    let made = "return document.querySelectorAll('main img, main b b, main script').length";
    assert_eq!(browser.run(made).await, 0);
    assert!(!browser.text("return document.title").await.contains("owned"));
    for width in [360, 1280] {
        browser.resize(width, 800).await;
        assert_eq!(overflow(&browser).await, 0, "at {width} pixels");
    }
    assert_clean(&browser, &forwarder).await;
}

#[tokio::test]
async fn a_void_key_and_names_that_become_one_tag_are_told() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#fresh", "live").await;
    let mut told: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    let connection = &mut told["connections"][0];
    connection["key"] =
        json!({"state": "invalid", "words": "403: this key is not valid on EU1", "seconds_ago": 5});
    connection["collapsing"] = json!([{
        "tag": "campaign_name:weekly_newsletter",
        "names": ["Weekly newsletter", "<i>weekly-newsletter</i>"],
        "group_by": "campaign_id",
    }]);
    browser
        .run(&format!("const told = {told}; window.fetch = async () => new Response(JSON.stringify(told))"))
        .await;
    let row = browser.shows("#connection-rows", "key: 403: this key is not valid on EU1").await;
    let said = "Datadog sees 2 names as one, campaign_name:weekly_newsletter: “Weekly newsletter”, “<i>weekly-newsletter</i>”. \
                Group by campaign_id instead.";
    assert!(row.contains(said), "{row}");
}

#[tokio::test]
async fn what_differs_from_brazes_dashboard_is_told_on_a_phone_too_and_hidden_where_it_is_off() {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new().connection("acme", &intake.url(), "key", &[]);
    let campaigns = [("acme", "weekly", 990), ("acme", "same", 77), ("acme", "unknown-to-braze", 5)];
    let day = keep_history(&configuration.home().join("history"), &campaigns).to_string();
    braze.campaign("weekly", &[(&day, 1060)]);
    braze.campaign("same", &[(&day, 77)]);
    let key = configuration.file("braze.key", REST_KEY);
    let forwarder = configuration
        .clone()
        .text("reconcile.braze_url", &braze.url())
        .text("reconcile.braze_key_file", key.to_str().unwrap())
        .start()
        .await;
    let browser = Browser::start().await;
    browser.resize(360, 740).await;
    browser.open(&forwarder.admin_url("/")).await;
    let workspace =
        browser.shows("#workspaces", "1 of 2 campaigns, Canvases and steps differs by more than 1 %").await;
    assert!(workspace.contains("Braze 1,137, accepted by Datadog 1,067, −70 (−6.15 %)"), "{workspace}");
    assert!(workspace.contains("compared ") && workspace.contains("next time "), "{workspace}");
    let differing = browser.seen("#differing-rows").await;
    for told in ["Name of weekly", "campaign · weekly", "70 never received", "1,060", "−70 (−6.6 %)"] {
        assert!(differing.contains(told), "{told} is not in {differing}");
    }
    assert!(!differing.contains("same"), "{differing}");
    let uncompared = browser.seen("#not-compared").await;
    assert!(uncompared.contains("not compared: Braze does not know it"), "{uncompared}");
    for width in [360, 320, 768] {
        browser.resize(width, 740).await;
        assert_eq!(overflow(&browser).await, 0, "at {width} pixels");
    }
    browser.run(axe::script()).await;
    assert_eq!(violations(&browser).await, Vec::<String>::new());
    assert!(forwarder.stop().await.success());

    let forwarder = configuration.start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#headline", "No sends since the start").await;
    let is_hidden = "return document.querySelector('#reconcile').checkVisibility() ? 'shown' : 'hidden'";
    assert_eq!(browser.text(is_hidden).await, "hidden");
}

/// By how many pixels the page is wider than its window.
async fn overflow(browser: &Browser) -> i64 {
    let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    browser.run(script).await.as_i64().unwrap()
}

/// A forwarder with something of everything to show.
async fn busy() -> (Intake, Forwarder) {
    let intake = Intake::start();
    intake.revoke("void");
    let mut configuration = Configuration::new().connection("rest", &intake.url(), "key", &[]);
    for number in 0..9 {
        let key = if number == 4 { "void" } else { "key" };
        let group = format!("group-{number}");
        configuration = configuration.connection(&format!("market_{number}"), &intake.url(), key, &[&group]);
    }
    let forwarder = configuration.start().await;
    for number in 0..9 {
        let mark = format!("busy-{number}");
        let properties = campaign(&mark, &format!("Campaign number {number} of many"));
        forwarder.push_accepted(sends(&mark, &format!("group-{number}"), 10 + number, 0, &properties)).await;
    }
    forwarder.push_accepted(sends("step", "group-1", 5, 0, &step("Onboarding", "s", "Welcome"))).await;
    forwarder.settled(131).await;
    (intake, forwarder)
}

#[tokio::test]
async fn it_fits_a_phone_and_has_a_dark_side() {
    let (_intake, forwarder) = busy().await;
    let browser = Browser::start().await;
    browser.resize(360, 740).await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#campaigns", "Campaign number 8").await;
    browser.run("document.querySelector('details').open = true").await;
    browser.run("const box = document.querySelector('#search'); box.value = 'campaign'; box.dispatchEvent(new Event('input'))").await;
    browser.shows("#results", "reaches Datadog").await;
    for width in [360, 320, 768] {
        browser.resize(width, 740).await;
        assert_eq!(overflow(&browser).await, 0, "at {width} pixels");
    }
    let ground = "return getComputedStyle(document.body).backgroundColor";
    browser.prefer("prefers-color-scheme", "light").await;
    let light = browser.text(ground).await;
    browser.prefer("prefers-color-scheme", "dark").await;
    assert_ne!(light, browser.text(ground).await);
    // Nothing moves, whatever the user prefers.
    let moves = "return [...document.querySelectorAll('*')].filter(one => { const style = getComputedStyle(one); \
                 return style.animationName !== 'none' || style.transitionDuration !== '0s' }).length";
    assert_eq!(browser.run(moves).await, 0);
}

#[tokio::test]
async fn it_is_used_by_keyboard_and_keeps_nobody_out() {
    let (_intake, forwarder) = busy().await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#connection-rows", "403").await;

    // Tab by tab through everything that can be used, each with a focus that is seen, and out again.
    let focused = "const at = document.activeElement; \
                   return at === document.body ? '' : (at.id || at.textContent.trim()) + '|' + getComputedStyle(at).outlineStyle";
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press(TAB).await;
        let at = browser.text(focused).await;
        if at.is_empty() || reached.contains(&at) {
            break;
        }
        reached.push(at);
    }
    let expected = [
        "Skip to the content",
        "search",
        "filter",
        "Connection",
        "Last outcome",
        "Accepted",
        "Dropped",
        "Pending",
        "Series",
        "Configuration as loaded",
        "/status",
        "/metrics",
        "/readyz",
        "/livez",
    ];
    let names: Vec<&str> = reached.iter().map(|at| at.split('|').next().unwrap()).collect();
    assert_eq!(names, expected);
    assert!(reached.iter().all(|at| !at.ends_with("|none")), "{reached:?}");

    // A filter and an order, and both stay over the next answers.
    let sort = "document.querySelector('th[data-sort=accepted] button').click(); \
                const box = document.querySelector('#filter'); box.value = 'market'; box.dispatchEvent(new Event('input'))";
    browser.run(sort).await;
    browser.shows("#connections-said", "10 connections, 1 in trouble, 9 shown").await;
    assert!(browser.seen("#connection-rows tr").await.contains("market_8"));
    assert_eq!(browser.text("return document.querySelector('[aria-sort]').dataset.sort").await, "accepted");
    browser.run("const box = document.querySelector('#search'); box.value = 'campaign'; box.dispatchEvent(new Event('input'))").await;
    browser.shows("#results", "reaches Datadog").await;

    browser.run("document.querySelector('details').open = true").await;
    browser.run(axe::script()).await;
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)] {
        browser.prefer("prefers-color-scheme", scheme).await;
        browser.resize(width, 800).await;
        assert_eq!(violations(&browser).await, Vec::<String>::new(), "{scheme}, {width} pixels");
    }
    // It would find something if there were something.
    browser.run("document.querySelector('#search').removeAttribute('placeholder'); document.querySelector('label').remove()").await;
    assert!(!violations(&browser).await.is_empty());
}

/// What axe-core finds.
async fn violations(browser: &Browser) -> Vec<String> {
    let script = "const done = arguments[arguments.length - 1]; \
                  axe.run().then(found => done(found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html + ' ' + node.failureSummary).join('; '))), error => done([String(error)]))";
    let found = browser.run_async(script, json!([])).await;
    found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn it_says_when_the_forwarder_does_not_answer_and_goes_on_when_it_does() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), "key", &[]);
    let forwarder = configuration.start().await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#fresh", "live").await;
    let url = forwarder.admin_url("/");
    assert!(forwarder.stop().await.success());
    browser.shows("#headline", "The forwarder does not answer").await;
    browser.shows("#fresh", "no answer for ").await;
    let _forwarder = configuration.start().await;
    browser.shows("#headline", "No sends since the start").await;
    assert_eq!(browser.text("return location.href").await, url);
}

#[tokio::test]
async fn without_scripts_it_says_where_the_same_is_told() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let browser = Browser::start().await;
    browser.scripts(false).await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("noscript", "/status").await;
}

#[tokio::test]
async fn a_page_that_would_break_its_rules_is_noticed() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    browser.shows("#fresh", "live").await;
    let outside = intake.url();
    browser
        .run(&format!(
            "const image = new Image(); image.src = '{outside}/x.png'; document.body.append(image)"
        ))
        .await;
    let inline = "try { document.createElement('script').textContent = '1'; return 'written' } catch (error) { return error.name }";
    assert_eq!(browser.text(inline).await, "TypeError");
    browser.run("document.body.insertAdjacentElement('beforeend', document.createElement('style')).append('p { color: red }')").await;
    let complaints = browser.complaints().await.concat();
    assert!(complaints.contains("img-src") && complaints.contains("style-src"), "{complaints}");
    assert_eq!(intake.requests().len(), 0);
}

/// On a phone nobody scrolls past the list of customers to the campaigns.
async fn assert_campaigns_precede_customers_on_a_phone(browser: &Browser) {
    browser.resize(360, 740).await;
    let place = async |title: &str, side: &str| {
        let script = format!(
            "return document.getElementById('{title}').closest('section').getBoundingClientRect().{side} + scrollY"
        );
        browser.run(&script).await.as_f64().unwrap()
    };
    let customers = place("connections-title", "top").await;
    for above in ["search-title", "campaigns-title", "steps-title"] {
        let (top, bottom) = (place(above, "top").await, place(above, "bottom").await);
        assert!(
            top < bottom && bottom <= customers,
            "{above} ends at {bottom}, customers begin at {customers}"
        );
    }
    assert_eq!(overflow(browser).await, 0);
}

#[tokio::test]
async fn it_stays_usable_with_500_connections_and_50_000_series() {
    const CONNECTIONS: usize = 500;
    let intake = Intake::start();
    intake.revoke("void");
    let mut configuration = Configuration::new();
    for number in 0..CONNECTIONS {
        let key = if number == 377 { "void" } else { "key" };
        let group = format!("group-{number}");
        configuration =
            configuration.connection(&format!("customer_{number:03}"), &intake.url(), key, &[&group]);
    }
    let forwarder = configuration.start().await;
    for number in 0..CONNECTIONS {
        let event = |campaign: usize| {
            json!({
                "event_type": "users.messages.email.Send",
                "id": format!("{number}-{campaign}"),
                "time": support::unix_now(),
                "properties": {
                    "app_group_id": format!("group-{number}"),
                    "campaign_id": format!("campaign-{number}-{campaign}"),
                    "campaign_name": format!("Campaign {campaign} of customer {number}"),
                },
            })
        };
        let body = json!({"events": (0..100).map(event).collect::<Vec<_>>()}).to_string();
        forwarder.push_accepted(body).await;
    }
    forwarder.settled(50_000).await;
    let browser = Browser::start().await;
    browser.open(&forwarder.admin_url("/")).await;
    // The first drop may be a minute old on a slow machine, and no news any more.
    let known = campaign("campaign-377-0", "Campaign 0 of customer 377");
    forwarder.push_accepted(sends("again", "group-377", 1, 0, &known)).await;
    browser.shows("#headline", "Sends of customer_377 are being dropped: HTTP 403 (API key refused)").await;
    assert!(browser.seen("#connection-rows tr").await.contains("customer_377"));
    assert_eq!(browser.run("return document.querySelectorAll('#connection-rows tr').length").await, 50);
    assert!(browser.seen("#connections-said").await.contains("those in trouble and the busiest"));
    browser.run("document.querySelector('#more').click()").await;
    support::eventually("all are asked for", async || {
        let rows = browser.run("return document.querySelectorAll('#connection-rows tr').length").await;
        (rows == 100).then_some(())
    })
    .await;
    let box_of = |id: &str, value: &str| {
        format!(
            "const box = document.querySelector('#{id}'); box.value = '{value}'; box.dispatchEvent(new Event('input'))"
        )
    };
    browser.run(&box_of("filter", "customer_42")).await;
    browser.shows("#connections-said", "500 connections, 1 in trouble, 10 shown").await;
    browser.run(&box_of("search", "campaign-499-99")).await;
    browser.shows("#results", "Campaign 99 of customer 499").await;
    browser.run(&box_of("search", "campaign")).await;
    let said = browser.shows("#search-said", "50,000 series of 50,000 remembered").await;
    assert!(said.contains("the 50 nearest are shown"), "{said}");
    browser.run(&box_of("filter", "")).await;
    assert_campaigns_precede_customers_on_a_phone(&browser).await;
    let nodes = browser.run("return document.querySelectorAll('*').length").await.as_u64().unwrap();
    assert!(nodes < 5_000, "{nodes} elements");
    let (status, search) =
        (forwarder.admin("/status").await.1.len(), forwarder.admin("/search?q=campaign").await.1.len());
    assert!(status < 1_000_000, "/status has {status} bytes");
    assert!(search < 200_000, "/search has {search} bytes");
    assert_clean(&browser, &forwarder).await;
}

/// Whatever reads the admin port may rely on each byte: keys, their order, how they are set.
#[tokio::test]
async fn status_search_and_metrics_are_written_as_they_were() {
    let (good, bad) = (Intake::start(), Intake::start());
    bad.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    let forwarder = Configuration::new()
        .connection("acme", &good.url(), "key", &["emea"])
        .connection("beta", &bad.url(), "other", &["apac"])
        .set("tags.static", "[\"env:prod\"]")
        .start()
        .await;
    // In one push, so that they are in one flush.
    let weekly = campaign("8a3f21", "Weekly newsletter");
    let pushes = [
        sends("a", "emea", 100, 0, &weekly),
        sends("b", "emea", 40, 0, &step("Onboarding", "step-1", "Welcome mail")),
        sends("c", "apac", 20, 0, &campaign("8a3f22", "Sale")),
        sends("a", "emea", 3, 0, &weekly),
        r#"{"events": [{"event_type": "users.behaviors.app.NewsFeed"}, {}]}"#.to_owned(),
    ];
    let events: Vec<Value> = pushes
        .iter()
        .map(|push| serde_json::from_str::<Value>(push).unwrap())
        .flat_map(|push| push["events"].as_array().unwrap().clone())
        .collect();
    forwarder.push_accepted(json!({ "events": events }).to_string()).await;
    forwarder.settled(165).await;
    let depth = async || forwarder.metrics().await.sum("braze_datadog_queue_depth", &[]);
    support::eventually("everything is acknowledged", async || (depth().await == 0).then_some(())).await;
    let is_told = |status: String| status.contains("are being dropped");
    support::eventually("the last minute is told", async || {
        is_told(forwarder.admin("/status").await.1).then_some(())
    })
    .await;
    support::eventually("the history is written, outcomes too, and its state is told", async || {
        let told = forwarder.admin("/history").await.1;
        let outcomes = ["\"accepted\": 100", "\"accepted\": 40", "\"http_403\": 20"];
        let is_written = outcomes.iter().all(|outcome| told.contains(outcome));
        // The state follows what is written, by a moment that a slow disk makes longer.
        (is_written && forwarder.admin("/status").await.1.contains("\"objects\": 4,")).then_some(())
    })
    .await;
    golden::assert_kept("metrics.txt", &golden::steady_metrics(&forwarder.admin("/metrics").await.1));
    golden::assert_kept("status.json", &golden::steady_json(&forwarder.admin("/status").await.1));
    golden::assert_kept("search.json", &golden::steady_json(&forwarder.admin("/search?q=weekly").await.1));
    assert!(forwarder.stop().await.success());
}

/// Writes the pictures for the README: the real page of the real binary, with numbers that a working day would give it.
#[tokio::test]
#[ignore = "writes docs/page.png and docs/page-dark.png: `make screenshot`"]
async fn screenshot() {
    let (_intake, forwarder) = busy().await;
    let browser = Browser::start().await;
    let told: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    let script = include_str!("working_day.js").replace("\"$STATUS\"", &told.to_string());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::create_dir_all(&docs).unwrap();
    let phone = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page-phone.png");
    for (scheme, width, path) in [
        ("light", 1280, docs.join("page.png")),
        ("dark", 1280, docs.join("page-dark.png")),
        ("light", 390, phone),
    ] {
        browser.resize(width, 900).await;
        browser.prefer("prefers-color-scheme", scheme).await;
        browser.open(&forwarder.admin_url("/")).await;
        browser.shows("#fresh", "live").await;
        browser.run(&script).await;
        browser.shows("#headline", "3,4").await;
        browser.shows("#results", "reaches Datadog").await;
        fs::write(path, browser.picture().await).unwrap();
    }
}

/// Not a test by itself: the process that is killed.
#[tokio::test]
async fn a_browser_shows_the_page_until_the_kill() {
    if children::is_to_be_killed() {
        let intake = Intake::start();
        let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
        let browser = Browser::start().await;
        browser.open(&forwarder.admin_url("/")).await;
        browser.shows("body", "acme").await;
        children::wait_for_the_kill();
    }
}

#[test]
fn a_browser_ends_with_the_test_process() {
    let names = ["chromedriver", "chromium", "braze-datadog"];
    children::assert_none_is_left("a_browser_shows_the_page_until_the_kill", &names);
}

/// A driver that is asked to end leaves its browser behind now and then.
#[tokio::test]
async fn a_browser_ends_when_it_is_dropped() {
    let browser = Browser::start().await;
    let (started, home) = (browser.processes(), browser.home().to_owned());
    assert!(started.values().any(|name| name == "chromium"), "{started:?}");
    drop(browser);
    children::assert_gone(&started);
    assert!(!home.exists(), "it has left its files");
}
