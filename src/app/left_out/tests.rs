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
        (top("http://127.0.0.1:8081"), "top", FAILED, ["top: ", "open http://127.0.0.1:8081 in a browser"]),
        (generate(Path::new("man")), "generate", FAILED, ["generate man: ", "--help"]),
    ] {
        assert!(manifest.contains(&format!("\n{feature} = [")), "Cargo.toml has no feature {feature}");
        assert_eq!(failure.status, status);
        let flag = format!("--features {feature}`");
        assert!(failure.message.contains(&flag), "{}", failure.message);
        assert!(says.iter().all(|said| failure.message.contains(said)), "{}", failure.message);
    }
}
