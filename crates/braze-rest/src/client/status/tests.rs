use super::*;

fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
    given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn statuses_are_told_apart() {
    let judge = |status, body: &str| {
        error(Endpoint::CanvasSeries, status, &HeaderMap::new(), body.as_bytes())
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let message = r#"{"message":"Invalid Canvas\nID"}"#;
    for (status, body, part) in [
        (200, "", ""),
        (202, r#"{"message":"queued"}"#, "\"queued\""),
        (301, "", "redirects are not followed"),
        (400, message, "does not know it (status 400, \"Invalid Canvas\\nID\")"),
        (400, "<html>", "is not Braze's REST API (status 400)"),
        (401, "", "needs the permission canvas.data_series"),
        (403, message, "needs the permission canvas.data_series"),
        (403, "Forbidden", "needs the permission canvas.data_series"),
        (
            403,
            " \n<html>",
            "is not Braze's REST API (status 403 with a web page; does a proxy refuse the request?)",
        ),
        (
            401,
            "<html>",
            "is not Braze's REST API (status 401 with a web page; does a proxy refuse the request?)",
        ),
        (404, message, "does not know it"),
        (404, "not found", "is not Braze's REST API (status 404)"),
        (405, message, "is not Braze's REST API (status 405)"),
        (429, message, "rate limit for /canvas/data_series is used up"),
        (500, message, "could not answer /canvas/data_series (status 500)"),
        (503, "", "(status 503)"),
    ] {
        assert!(judge(status, body).contains(part), "{status}: {}", judge(status, body));
    }
}

#[test]
fn an_answer_in_a_coding_is_not_read_as_if_it_were_plain() {
    let judge = |status, coding, body: &[u8]| {
        error(Endpoint::CanvasSeries, status, &headers(&[("content-encoding", coding)]), body)
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let packed = b"\x1f\x8b\x08";
    for status in [200, 400, 401, 403, 404] {
        let said = judge(status, "gzip", packed);
        let part =
            format!("is not Braze's REST API (status {status} with Content-Encoding gzip, which was not");
        assert!(said.contains(&part), "{said}");
    }
    assert!(judge(503, "gzip", packed).contains("status 503"));
    // What can be read is.
    let message = br#"{"message":"Invalid"}"#;
    assert_eq!(judge(200, "gzip", message), "");
    assert!(judge(403, "br", message).contains("\"Invalid\""));
    assert!(judge(403, "identity", b"").contains("needs the permission"));
}

#[test]
fn a_limit_opens_when_braze_says_by_its_own_clock() {
    let seconds = |given: &[_]| opens_in(&headers(given)).map(|wait| wait.as_secs());
    let date = ("date", "Fri, 20 Nov 2026 10:00:00 GMT");
    // 10:00:42.
    let reset = ("x-ratelimit-reset", "1795168842");
    assert_eq!(seconds(&[("retry-after", "7"), date, reset]), Some(7));
    assert_eq!(seconds(&[("x-ratelimit-retry-after", "8")]), Some(8));
    let at = ("retry-after", "Fri, 20 Nov 2026 10:01:30 GMT");
    assert_eq!(seconds(&[at, date, reset]), Some(90));
    assert_eq!(seconds(&[at]), None);
    assert_eq!(seconds(&[date, ("retry-after", "Fri, 20 Nov 2026 09:00:00 GMT")]), Some(0));
    assert_eq!(seconds(&[date, ("retry-after", "soon"), reset]), Some(42));
    assert_eq!(seconds(&[date, reset]), Some(42));
    assert_eq!(seconds(&[reset]), None);
    assert_eq!(seconds(&[date, ("x-ratelimit-reset", "7")]), Some(0));
    assert_eq!(seconds(&[date, ("x-ratelimit-reset", "soon")]), None);
    assert_eq!(seconds(&[("retry-after", "99999999999999")]), Some(86_400));
}
