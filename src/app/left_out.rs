//! Features that this build lacks, and the answers where they are used: a feature of Cargo.toml that is off. Images and
//! packages have them all.

#[cfg(any(test, not(feature = "generate")))]
use std::path::Path;

use super::Failure;

/// `queue.kind = "kafka"`
#[cfg(any(test, not(feature = "kafka")))]
pub(super) fn kafka() -> Failure {
    Failure::configuration(sentence("queue.kind = \"kafka\"", "kafka", "set queue.kind = \"embedded\""))
}

/// `queue.kind = "storage"`, and `--import` of a URL
#[cfg(any(test, not(feature = "storage")))]
pub(super) fn storage(what: &str) -> Failure {
    Failure::configuration(sentence(what, "storage", "read files (--import FILE)"))
}

/// `braze-datadog top`
#[cfg(any(test, not(feature = "top")))]
pub(super) fn top(url: &str) -> Failure {
    let instead = format!("open {url} in a browser, which shows the same");
    Failure::failed(sentence("top", "top", &instead))
}

/// `braze-datadog generate`
#[cfg(any(test, not(feature = "generate")))]
pub(super) fn generate(directory: &Path) -> Failure {
    let what = format!("generate {}", directory.display());
    Failure::failed(sentence(&what, "generate", "read `braze-datadog COMMAND --help`"))
}

fn sentence(what: &str, feature: &str, instead: &str) -> String {
    format!(
        "{what}: this braze-datadog was built without it; build it with `cargo build --release --features {feature}`, take \
         the image, which has everything, or {instead}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{FAILED, WRONG_CONFIGURATION};

    #[test]
    fn what_was_left_out_is_named_with_the_feature_that_brings_it_and_with_what_does_without() {
        let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        for (failure, feature, status, says) in [
            (
                kafka(),
                "kafka",
                WRONG_CONFIGURATION,
                ["queue.kind = \"kafka\": ", "set queue.kind = \"embedded\""],
            ),
            (
                storage("queue.kind = \"storage\""),
                "storage",
                WRONG_CONFIGURATION,
                ["queue.kind = \"storage\": ", "read files (--import FILE)"],
            ),
            (
                top("http://127.0.0.1:8081"),
                "top",
                FAILED,
                ["top: ", "open http://127.0.0.1:8081 in a browser"],
            ),
            (generate(Path::new("man")), "generate", FAILED, ["generate man: ", "--help"]),
        ] {
            assert!(manifest.contains(&format!("\n{feature} = [")), "Cargo.toml has no feature {feature}");
            assert_eq!(failure.status, status);
            let flag = format!("--features {feature}`");
            assert!(failure.message.contains(&flag), "{}", failure.message);
            assert!(says.iter().all(|said| failure.message.contains(said)), "{}", failure.message);
        }
    }
}
