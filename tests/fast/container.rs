//! The Dockerfile, as far as it can be checked without an engine: what it copies exists and is not ignored,
//! and what it runs is small, unprivileged and the binary of this crate.

use std::fs;
use std::path::{Path, PathBuf};

/// One instruction, its continued lines joined: `("FROM", "rust:1.95-bookworm AS build")`.
type Instruction = (String, String);

/// Debian's bundle of the public authorities, which rust's image has, and where it is looked for.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn parse(dockerfile: &str) -> Vec<Instruction> {
    let lines = dockerfile.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let instructions = joined.lines().filter(|line| !line.trim().is_empty());
    instructions
        .map(|line| {
            let (name, rest) = line.trim().split_once(char::is_whitespace).unwrap();
            (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// The stages: each starts with its `FROM`.
fn stages(instructions: &[Instruction]) -> Vec<&[Instruction]> {
    let starts: Vec<usize> = (0..instructions.len()).filter(|at| instructions[*at].0 == "FROM").collect();
    let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| &instructions[start..end]).collect()
}

/// The one argument of an instruction that must occur once.
fn one<'i>(stage: &'i [Instruction], name: &str) -> &'i str {
    let mut found = stage.iter().filter(|(of, _)| of == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(found.next().is_none(), "{name} occurs twice");
    &first.1
}

/// Options, sources and destination of a COPY.
fn copy(arguments: &str) -> (Vec<&str>, Vec<&str>, &str) {
    let (options, mut paths): (Vec<&str>, Vec<&str>) =
        arguments.split(' ').partition(|word| word.starts_with("--"));
    let destination = paths.pop().unwrap();
    (options, paths, destination)
}

fn exec_form(arguments: &str) -> Vec<String> {
    let list = &arguments[arguments.find('[').unwrap_or_else(|| panic!("not the exec form: {arguments}"))..];
    serde_json::from_str(list).unwrap()
}

/// Whether the build context holds a file or directory of the root: the last rule that fits decides.
fn in_context(ignore: &str, name: &str) -> bool {
    let rules = ignore.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    rules.fold(true, |held, rule| match rule.strip_prefix('!') {
        Some(kept) if kept == name => true,
        None if rule == "*" || rule == name => false,
        _ => held,
    })
}

#[test]
fn what_is_copied_from_here_exists_and_is_not_ignored() {
    let ignore = read(".dockerignore");
    let mut copied = Vec::new();
    for (_, arguments) in parse(&read("Dockerfile")).iter().filter(|(name, _)| name == "COPY") {
        let (options, sources, _) = copy(arguments);
        if options.iter().any(|option| option.starts_with("--from=")) {
            continue;
        }
        for source in sources {
            assert!(root().join(source).exists(), "{source} does not exist");
            assert!(in_context(&ignore, source), "{source} is in .dockerignore");
            copied.push(source.to_owned());
        }
    }
    assert!(
        ["Cargo.toml", "Cargo.lock", "crates", "src"]
            .iter()
            .all(|needed| copied.iter().any(|name| name == needed))
    );
    for never in [".git", "target", "samples", "tests"] {
        assert!(!in_context(&ignore, never), "{never} would be sent to the engine");
    }
}

/// A file that is included from elsewhere would not be in the context.
#[test]
fn no_source_includes_what_is_not_copied() {
    let mut open = vec![root().join("src"), root().join("crates")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let ups = if path.parent().unwrap().ends_with("src") { "../" } else { "../../" };
            for macro_name in ["include_str!", "include_bytes!"] {
                // From a file that is deeper, this can be what is copied.
                let copied = format!("{macro_name}(\"../../../config/datadog/");
                let text = text.replace(&copied, "");
                let included = format!("{macro_name}(\"{ups}");
                assert!(!text.contains(&included), "{} may include what is not copied", path.display());
            }
        }
    }
}

#[test]
fn the_toolchain_is_the_one_that_the_manifest_asks_for() {
    let instructions = parse(&read("Dockerfile"));
    let manifest = read("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert_eq!(instructions[0].1, format!("--platform=$BUILDPLATFORM rust:{version}-bookworm AS build"));
    let builds: Vec<&Instruction> =
        instructions.iter().filter(|(name, run)| name == "RUN" && run.contains(".ci/static")).collect();
    let [(_, build)] = builds[..] else { panic!("one build: {builds:?}") };
    assert!(build.contains(r#".ci/install cross && .ci/static "$TARGETARCH""#), "{build}");
    assert!(read(".ci/static").contains("zigbuild --locked --profile dist --all-features "));
    for kept in ["/usr/local/cargo/registry", "/build/target"] {
        assert!(
            build.contains(&format!("--mount=type=cache,target={kept} ")),
            "{kept} is built anew each time"
        );
    }
}

#[test]
fn what_is_copied_from_the_build_was_made_there() {
    let instructions = parse(&read("Dockerfile"));
    let [build, image] = stages(&instructions)[..] else { panic!("two stages") };
    assert_eq!(one(build, "WORKDIR"), "/build");
    let binary = "/braze-datadog";
    let copies: Vec<_> =
        image.iter().filter(|(name, _)| name == "COPY").map(|(_, what)| copy(what)).collect();
    for (options, sources, _) in &copies {
        if options.contains(&"--from=build") {
            let made = |source: &str| {
                let makes = |run: &str| {
                    run.contains(&format!("cp \"target/static/$TARGETARCH{source}\" {source}"))
                        || run.contains(&format!("mkdir -p {source}"))
                };
                build.iter().any(|(_, run)| makes(run))
            };
            let is_there = |source: &str| source == CERTIFICATES || made(source);
            assert!(sources.iter().all(|source| is_there(source)), "{sources:?}");
        }
    }
    let (_, _, installed) = copies.iter().find(|(_, sources, _)| sources[..] == [binary]).unwrap();
    assert_eq!(exec_form(one(image, "ENTRYPOINT")), [*installed]);
    assert_eq!(exec_form(one(image, "CMD")), ["run"]);
    assert!(read("Cargo.toml").contains("name = \"braze-datadog\""));
}

#[test]
fn the_image_runs_unprivileged_and_says_how_it_is() {
    let instructions = parse(&read("Dockerfile"));
    let image = *stages(&instructions).last().unwrap();
    assert_eq!(image[0].1, "scratch", "what is below the image is pinned by being nothing");
    let user = one(image, "USER");
    let ids: Vec<u32> =
        user.split(':').map(|id| id.parse().unwrap_or_else(|_| panic!("{user} is not numeric"))).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id >= 1000), "{user}");
    assert!(
        !image.iter().any(|(name, _)| name == "RUN" || name == "SHELL" || name == "ADD"),
        "there is no shell to run it"
    );
    assert_eq!(one(image, "STOPSIGNAL"), "SIGTERM");
    assert_eq!(one(image, "EXPOSE"), "8080 8081");
    assert_eq!(exec_form(one(image, "HEALTHCHECK")), ["/usr/local/bin/braze-datadog", "health"]);
    assert!(
        image
            .iter()
            .any(|(name, what)| name == "LABEL" && what.contains("org.opencontainers.image.licenses"))
    );

    let [volume] = &exec_form(one(image, "VOLUME"))[..] else { panic!("one volume") };
    let default_queue = Path::new("/var/lib/braze-datadog/queue");
    assert!(default_queue.starts_with(volume), "the default queue is not on the volume");
    let owned = |what: &str| what.contains(&format!("--chown={user}")) && copy(what).2 == volume;
    assert!(
        image.iter().any(|(name, what)| name == "COPY" && owned(what)),
        "{user} could not write to {volume}"
    );
}

/// What is linked into the binary has licences that want to go with it.
#[test]
fn the_image_holds_the_licences_and_says_its_version() {
    let instructions = parse(&read("Dockerfile"));
    let image = *stages(&instructions).last().unwrap();
    for text in ["LICENSE", "THIRD-PARTY-NOTICES"] {
        let to = format!("/usr/share/doc/braze-datadog/{text}");
        assert!(image.iter().any(|(name, what)| name == "COPY" && copy(what).2 == to), "{to}");
    }
    let version = format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(one(image, "LABEL").contains(&version), "Dockerfile: {version}");
    assert!(one(image, "LABEL").contains("org.opencontainers.image.revision=\"$BRAZE_DATADOG_COMMIT\""));
    assert_eq!(one(image, "ARG"), "BRAZE_DATADOG_COMMIT", "a stage knows the arguments that it names");
    assert!(read(".ci/static").contains(".ci/notices \"$triple\" \"$directory/THIRD-PARTY-NOTICES\""));
}

/// Who has no engine gets the same from a script.
#[test]
fn the_script_makes_the_image_of_the_dockerfile() {
    let instructions = parse(&read("Dockerfile"));
    let image = *stages(&instructions).last().unwrap();
    let script = read(".ci/image").replace("\\\n", " ");
    let said = |what: &str| script.contains(what);
    for name in ["USER", "ENV", "STOPSIGNAL"] {
        let value = one(image, name);
        let option = match name {
            "USER" => "--user",
            "ENV" => "--env",
            _ => "--stop-signal",
        };
        assert!(said(&format!("{option} {value}")), "{name} {value}");
    }
    for port in one(image, "EXPOSE").split(' ') {
        assert!(said(&format!("--port {port}")), "{port}");
    }
    let [volume] = &exec_form(one(image, "VOLUME"))[..] else { panic!("one volume") };
    assert!(said(&format!("--volume {volume}")));
    assert!(said(&format!("--entrypoint '{}'", one(image, "ENTRYPOINT"))));
    assert!(said(&format!("--cmd {}", exec_form(one(image, "CMD"))[0])));
    for (_, arguments) in image.iter().filter(|(name, _)| name == "COPY") {
        let (_, _, destination) = copy(arguments);
        assert!(said(&format!("\"$files{destination}\"")), "{destination} is not in the script's image");
    }
    for label in one(image, "LABEL").split(' ').filter(|word| word.starts_with("org.")) {
        let (key, _) = label.split_once('=').unwrap();
        assert!(said(&format!("\"{key}=")), "{key}");
    }
}

#[test]
fn nothing_secret_is_baked_in() {
    for (name, arguments) in parse(&read("Dockerfile")) {
        let upper = arguments.to_uppercase();
        assert!(
            !(name == "ENV" || name == "ARG") || !(upper.contains("KEY") || upper.contains("TOKEN")),
            "{arguments}"
        );
    }
}

#[test]
fn the_parser_reads_continued_lines_and_the_rules_in_their_order() {
    let parsed = parse("FROM a AS b\n# no\nRUN x \\\n # still no\n && y\n\nCMD [\"z\"]\n");
    let expected = [("FROM", "a AS b"), ("RUN", "x && y"), ("CMD", "[\"z\"]")];
    assert_eq!(parsed, expected.map(|(name, rest)| (name.to_owned(), rest.to_owned())));
    assert!(
        !in_context("*\n!src\n", "target")
            && in_context("*\n!src\n", "src")
            && !in_context("!src\n*\n", "src")
    );
}
