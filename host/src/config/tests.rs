//! Whole files: good ones, bad ones with their exact messages, and what must never be shown.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const ENTRYPOINTS: &str =
    "entrypoints: [{ name: ws, type: websocket, port: 8066 }, { name: feed, type: sse, port: 8067 }]";
const KAFKA: &str = "endpoints: [{ name: k, type: kafka, config: { brokers: b, topic_in: i, topic_out: o } }]";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "SECRET" => "hunter2",
        "NUMBER" => "30",
        "ZERO" => "0",
        "PORT" => "8066",
        "OFF" => "off",
        _ => return None,
    };
    Some(value.to_owned())
}

fn fill(text: &str) -> String {
    text.replace("{E}", ENTRYPOINTS).replace("{K}", KAFKA)
}

fn good(text: &str) -> Loaded {
    parse(&fill(text), "c.yaml", &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// `bad.txt`: each text with the lines that follow it.
fn table() -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = vec![(String::new(), String::new())];
    for line in include_str!("bad.txt").lines().skip_while(|line| line.starts_with('#') || line.is_empty()) {
        let last = out.last_mut().unwrap();
        match line.strip_prefix('!') {
            Some(message) => last.1.push_str(&format!("{}\n", message.trim_start())),
            None if last.1.is_empty() => last.0.push_str(&format!("{line}\n")),
            None => out.push((format!("{line}\n"), String::new())),
        }
    }
    out
}

#[test]
fn bad_files_are_refused_with_all_their_errors_at_once() {
    let cases = table();
    assert!(cases.len() >= 25, "{}", cases.len());
    let mut wrong = String::new();
    for (text, wanted) in &cases {
        let found = match parse(&fill(text), "c.yaml", &env) {
            Ok(_) => "loads\n".to_owned(),
            Err(errors) => format!("{errors}\n"),
        };
        assert!(!found.contains("hunter2"), "a secret is shown: {found}");
        if found != *wanted {
            let found: String = found.lines().fold(String::new(), |mut all, line| {
                writeln!(all, "! {line}").unwrap();
                all
            });
            write!(wrong, "{text}{found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "these say something else than bad.txt has:\n{wrong}");
}

#[test]
fn every_file_in_config_loads() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let loaded = parse(&std::fs::read_to_string(&path).unwrap(), "c.yaml", &|_| None);
            let loaded = loaded.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
            assert!(report(&loaded).ends_with("\nok\n"));
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    for name in ["default.yaml", "full.yaml", "kafka.yaml"] {
        assert!(names.iter().any(|found| found == name), "config/{name} is missing");
    }
}

#[test]
fn the_sample_of_the_first_specification_loads_with_warnings() {
    let loaded = load(&folder().join("full.yaml")).unwrap();
    let places: Vec<String> = loaded.warnings.iter().map(|one| format!("{}:{}", one.line.unwrap(), one.path)).collect();
    assert_eq!(
        places,
        [
            "5:entrypoints[1]",
            "11:entrypoints[3]",
            "23:endpoints[1].type",
            "29:endpoints[2].type",
            "35:endpoints[3].type",
            "44:endpoints[4].type",
            "55:routes[0].channel_size",
            "60:routes[1].delivery_guarantee",
            "61:routes[1].channel_size",
            "69:routes[3]",
        ]
    );
    assert!(loaded.config.routes.last().unwrap().bridge);
    assert_eq!(loaded.config.routes[2].max_in_flight, 10);
}

#[test]
fn the_demo_stays_on_this_machine_and_warns_of_nothing() {
    let loaded = Source::Demo.load().unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.admin.bind.as_deref(), Some("127.0.0.1"));
    let ports: Vec<Option<u16>> = config.entrypoints.iter().map(|one| one.port).collect();
    assert_eq!(ports, [8066, 8067, 8068, 8069].map(Some));
    assert!(config.entrypoints.iter().all(|one| one.bind.as_deref() == Some("127.0.0.1")));
    let [Endpoint { kind: EndpointKind::Memory(memory), .. }] = config.endpoints.as_slice() else { panic!() };
    assert_eq!(
        (memory.topic_in.as_slice(), &memory.topic_out),
        (&["events".to_owned()][..], &Some("events".to_owned()))
    );
    assert_eq!((memory.retain, memory.retain_bytes, memory.topics), (65536, 64 << 20, 1024));
}

#[test]
fn defaults_depend_on_the_kind() {
    let config = good(
        "entrypoints:
  - { name: ws, type: websocket, port: 1 }
  - { name: feed, type: sse, port: 2, bind: '::1' }
  - { name: post, type: http_post, port: 3 }
  - { name: poll, type: http_get, port: 0, ack_timeout: off }
  - { name: pull, type: http_get, port: 0 }
endpoints: [{ name: m, type: memory }]
routes:
  - { source: ws, target: m, direction: upstream }
  - { source: m, target: feed, direction: downstream, subscription: shared }
  - { source: post, target: m, direction: upstream }
  - { source: m, target: poll, direction: downstream, match: { header: { X-A: b } } }
",
    )
    .config;
    let loss: Vec<OnBrokerLoss> = config.routes.iter().map(|one| one.on_broker_loss).collect();
    assert_eq!(loss, [OnBrokerLoss::Close, OnBrokerLoss::Hold, OnBrokerLoss::Close, OnBrokerLoss::Close]);
    let acks: Vec<Option<u64>> = config.entrypoints.iter().map(|one| one.ack_timeout.map(|t| t.as_secs())).collect();
    assert_eq!(acks, [None, None, None, None, Some(60)]);
    let [first, shared, post, poll] = config.routes.as_slice() else { panic!() };
    assert_eq!((first.name.as_str(), first.channel_size, first.channel_size_set), ("ws->m", 64, false));
    assert_eq!((first.slow_client_timeout, shared.slow_client_timeout), (None, Some(Duration::from_secs(60))));
    assert_eq!((post.max_in_flight, first.delivery_guarantee), (1024, Guarantee::Auto));
    assert_eq!(poll.matches.header.get("x-a").map(String::as_str), Some("b"));
    assert_eq!(config.entrypoints[1].bind.as_deref(), Some("[::1]"));
    assert_eq!((config.admin.port, &config.admin.bind, config.entrypoints[0].bind.as_ref()), (9091, &None, None));
}

#[test]
fn variables_take_the_type_that_the_key_has() {
    let config = good(
        "admin: { port: \"${PORT}\", token: \"${NUMBER}\" }
log_level: \"${LEVEL:-debug}\"
drain_timeout: \"${NUMBER}s\"
entrypoints: [{ name: \"${NAME:-ws}\", type: websocket, port: 1, cors: \"${CORS:-true}\", ack_timeout: \"${OFF}\" }]
endpoints:
  - name: k
    type: kafka
    config:
      brokers: ${BROKERS:-b:9092}
      sasl:
        mechanism: PLAIN
        username: ${NUMBER}
        password: pa$$$${x}
      tls: {}
",
    )
    .config;
    assert_eq!((config.admin.port, config.admin.token), (8066, Some(Secret("30".into()))));
    assert_eq!(config.drain_timeout, Duration::from_secs(30));
    assert!(config.entrypoints[0].cors && config.entrypoints[0].name == "ws");
    let EndpointKind::Kafka(kafka) = &config.endpoints[0].kind else { panic!() };
    let sasl = kafka.sasl.as_ref().unwrap();
    assert_eq!((kafka.brokers.as_str(), sasl.username.as_str()), ("b:9092", "30"));
    assert_eq!(sasl.password, Secret("pa$${x}".into()));
    assert!(good("admin: { token: \"${NO_SUCH:-}\" }").config.admin.token.is_none());
}

#[test]
fn keys_of_later_versions_load_with_a_warning() {
    let loaded = good(
        "{E}
endpoints:
  - name: k
    type: kafka
    allow_patterns: true
    config:
      { brokers: b, topic_out: o, fetch_buffer: 1MiB, fetch_buffer_total: 1MiB, max_latency: 5ms, group_protocol: consumer }
plugins_dir: p
plugins: [{ name: geo, config: { a: 1 }, on_error: dead_letter }]
routes:
  - { source: ws, target: k, direction: upstream, lifecycle_events: true, resolver: r, durable: true, receipt: written }
  - source: k
    target: feed
    direction: downstream
    subscription: shared
    max_redeliveries: 3
    dead_letter: { endpoint: k, address: dead }
    plugins: [geo, { name: out, on_error: open }]
    max_in_flight: 4
    lifecycle_events: true
",
    );
    let places: Vec<&str> = loaded.warnings.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(
        places,
        [
            "endpoints[0].config.fetch_buffer",
            "endpoints[0].config.fetch_buffer_total",
            "endpoints[0].config.max_latency",
            "endpoints[0].config.group_protocol",
            "routes[0].durable",
            "routes[0].receipt",
            "routes[1].source",
            "routes[1].subscription",
            "routes[1].max_in_flight",
            "routes[1].lifecycle_events",
        ]
    );
    let shown = report(&loaded);
    assert!(shown.contains("chain: resolver r\n"), "{shown}");
    assert!(shown.contains("chain: geo (on_error: dead_letter) -> out (on_error: open)\n"), "{shown}");
}

#[test]
fn secrets_never_print() {
    let loaded = good(
        "admin: { token: hunter2 }
plugins: [{ name: geo, config: { key: hunter2 } }]
endpoints:
  - name: k
    type: kafka
    config:
      brokers: b
      tls: { cert: c, key: k, key_password: hunter2 }
      sasl: { mechanism: PLAIN, username: u, password: hunter2 }
      properties: { ssl.key.password: hunter2 }
  - { name: r, type: rabbitmq, config: { url: \"amqp://u:hunter2@h\" } }
",
    );
    for shown in [format!("{loaded:?}"), format!("{loaded:#?}"), report(&loaded)] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error_with_a_remedy() {
    let errors = load(Path::new("no/such.yaml")).unwrap_err();
    let text = errors.to_string();
    assert!(text.starts_with("no/such.yaml: cannot be read: ") && text.contains("--config"), "{text}");
    assert_eq!(errors.iter().count(), 1);
}

#[test]
fn the_documents_have_a_row_for_every_key_with_its_default() {
    // Where the page speaks of a type of the schema: in the section under this heading.
    let sections = [
        ("File", "Top level"),
        ("Admin", "`admin`"),
        ("PacketLog", "`packet_log`"),
        ("Plugin", "`plugins[]`"),
        ("Canary", "`canary`"),
        ("Attach", "`attach[]`"),
        ("Entrypoint", "`entrypoints[]`"),
        ("Endpoint", "`endpoints[]`"),
        ("Kafka", "`config` of `kafka`"),
        ("Tls", "`tls`"),
        ("Sasl", "`sasl`"),
        ("Memory", "`config` of `memory`"),
        ("Route", "`routes[]`"),
        ("Match", "`match`"),
        ("DeadLetter", "`dead_letter`"),
    ];
    let page = include_str!("../../../docs/configuration.md");
    let schema = schema();
    let mut types = schema["$defs"].as_object().unwrap().clone();
    types.insert("File".to_owned(), schema.clone());
    let mut wrong = String::new();
    for (name, of) in types.iter().filter(|(_, of)| of["properties"].is_object()) {
        let (_, heading) = sections.iter().find(|(one, _)| one == name).unwrap_or_else(|| panic!("no section: {name}"));
        let section = page.split("\n#").find(|part| part.trim_start_matches(['#', ' ']).starts_with(heading));
        let section = section.unwrap_or_else(|| panic!("docs/configuration.md has no heading {heading}"));
        for (key, about) in of["properties"].as_object().unwrap() {
            let default = match &about["default"] {
                serde_json::Value::String(text) => format!("`{text}`"),
                value if value.is_number() || value.is_boolean() => format!("`{value}`"),
                _ => String::new(),
            };
            let row = format!("\n| `{key}` | {default}");
            if !section.contains(&row) {
                writeln!(wrong, "{heading}: a row that begins with {row:?}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "docs/configuration.md lacks\n{wrong}");
}
