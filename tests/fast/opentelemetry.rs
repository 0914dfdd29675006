//! The configuration for an OpenTelemetry Collector, as far as it can be checked without one: promtool looks at what it
//! scrapes by (`tests/process/prometheus.rs`), and `make otel` runs it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::yaml;

fn collector() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/opentelemetry/collector.yaml");
    yaml::document(&fs::read_to_string(path).unwrap())
}

#[test]
fn each_component_of_the_collector_is_in_a_pipeline_and_each_of_a_pipeline_is_there() {
    let collector = collector();
    let pipelines = collector["service"]["pipelines"].as_object().unwrap();
    for kind in ["receivers", "processors", "exporters"] {
        let defined: BTreeSet<&str> =
            collector[kind].as_object().unwrap().keys().map(String::as_str).collect();
        let named = pipelines.values().flat_map(|pipeline| pipeline[kind].as_array().unwrap());
        let used: BTreeSet<&str> = named.map(|name| name.as_str().unwrap()).collect();
        assert_eq!(defined, used, "{kind}");
    }
    let keys: BTreeSet<&String> = collector.as_object().unwrap().keys().collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["exporters", "processors", "receivers", "service"]);
    assert_eq!(pipelines["metrics"]["processors"][0], "memory_limiter", "it has to come first");
}

/// The alerts ask for this job.
#[test]
fn the_collector_calls_the_job_as_the_alerts_do() {
    let collector = collector();
    let scraped = &collector["receivers"]["prometheus"]["config"]["scrape_configs"];
    assert_eq!(scraped.as_array().unwrap().len(), 1);
    let job = scraped[0]["job_name"].as_str().unwrap();
    let alerts =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/alerts.yaml"));
    assert!(alerts.unwrap().contains(&format!("{{job=\"{job}\"}}")), "{job}");
}
