use super::*;

fn check(uri: &str, hosts: &[&str]) -> Result<(), Misdirected> {
    let known = Hosts::new(&["Dashboard.example.com".into(), "forwarder".into(), "Rooted.example.".into()]);
    let mut request = Request::builder().uri(uri);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    known.check(&request.body(()).unwrap())
}

#[test]
fn addresses_localhost_and_the_names_of_the_configuration_are_answered_with_any_port() {
    for host in [
        "127.0.0.1:8081",
        "10.1.2.3",
        "[::1]:8081",
        "[2001:db8::1]",
        "localhost",
        "LOCALHOST:80",
        "dashboard.example.com",
        "DASHBOARD.example.com.:443",
        "forwarder:8081",
        "rooted.example",
        "rooted.example.:8081",
        "",
    ] {
        assert_eq!(check("/status", &[host]), Ok(()), "{host}");
    }
    assert_eq!(check("/status", &[]), Ok(()), "HTTP/1.0");
    assert_eq!(check("http://127.0.0.1:8081/status", &["127.0.0.1:8081"]), Ok(()));
}

#[test]
fn every_other_name_is_refused_however_it_is_written() {
    for host in [
        "evil.example",
        "evil.example:8081",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil-dashboard.example.com",
        "x.dashboard.example.com",
        "dashboard.example.com:80:80",
        "127.0.0.1@evil.example",
        "::1",
        "[::1].evil.example",
        "2130706433",
        "127.1",
        ":8081",
        ".",
    ] {
        assert!(check("/status", &[host]).is_err(), "{host}");
    }
    assert!(check("/status", &["localhost", "evil.example"]).is_err(), "two of them");
    assert!(check("http://evil.example/status", &["localhost"]).is_err(), "the URL's goes first");
}

#[test]
fn what_is_told_can_be_pasted_and_holds_nothing_but_a_name() {
    let told = check("/", &["Evil.Example:1"]).unwrap_err().text();
    assert!(told.contains("[admin]\nhosts = [\"evil.example\"]\n"), "{told}");
    let told = check("/", &["a\"b<script>"]).unwrap_err().text();
    assert!(!told.contains("script") && told.contains("dashboard.example.com"), "{told}");
}
