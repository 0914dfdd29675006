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
pub(crate) fn top(url: &str) -> Failure {
    let instead = format!("open {url} in a browser, which shows the same");
    Failure::failed(sentence("top", "top", &instead))
}

/// `braze-datadog generate`
#[cfg(any(test, not(feature = "generate")))]
pub(crate) fn generate(directory: &Path) -> Failure {
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
mod tests;
