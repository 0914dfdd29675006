//! The page for people: its files, embedded in the binary.

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use http_listener::Answer;

/// Only what this port serves may be loaded; nothing may be sent, framed, or written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// One file.
#[derive(Debug)]
pub(super) struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

static FILES: [File; 4] = [
    File { path: "/", content_type: "text/html; charset=utf-8", content: include_str!("page/page.html") },
    File {
        path: "/page.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("page/page.css"),
    },
    File {
        path: "/page.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("page/page.js"),
    },
    File { path: "/icon.svg", content_type: "image/svg+xml", content: include_str!("page/icon.svg") },
];

/// The file of a path.
pub(super) fn file(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// Answers with a file, or with "not modified". The browser asks every time, because an update of the program changes the
/// file.
pub(super) fn answer(file: &'static File, asked: &HeaderMap) -> Answer {
    let tag = format!("\"{:08x}\"", crc32fast::hash(file.content.as_bytes()));
    let is_known = asked.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = Response::new(if is_known { "".into() } else { file.content.into() });
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_files_that_there_are_and_has_nothing_inline() {
        let page = file("/").unwrap().content;
        for name in ["/page.css", "/page.js", "/icon.svg"] {
            assert!(page.contains(&format!("\"{}\"", &name[1..])), "{name}");
            assert!(file(name).is_some(), "{name}");
        }
        // Below the path of a proxy, what begins with a slash is somebody else's.
        for forbidden in ["href=\"/", "src=\"/", "style=", "onclick", "<style", "http://", "https://"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let script = file("/page.js").unwrap().content;
        for forbidden in [
            "fetch(\"/",
            "fetch(`/",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!script.contains(forbidden), "{forbidden}: names come from customers");
        }
    }

    #[test]
    fn a_file_is_sent_once_and_then_known() {
        let css = file("/page.css").unwrap();
        let first = answer(css, &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let asked = HeaderMap::from_iter([(IF_NONE_MATCH, first.headers()[ETAG].clone())]);
        assert_eq!(answer(css, &asked).status(), StatusCode::NOT_MODIFIED);
        let other = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("\"0\""))]);
        assert_eq!(answer(css, &other).status(), StatusCode::OK);
    }
}
