//! A sidecar: `NAME.yaml` beside `NAME.wasm`, the settings of that plugin and where it attaches. The plugins folder's
//! watcher calls it; the way of the text is the same as a configuration file's.

use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::problem::{Errors, Finding, Problem};
use super::types::Plugin;
use super::yaml::Lines;
use super::{build, check, faults, hide, merge, placed, yaml};

/// The entry that a sidecar's text is read as.
const ENTRY: &str = "plugins[0]";

/// Checks a sidecar's text, with the process's environment. `file` stands in messages, `name` is the plugin's.
///
/// # Errors
/// All that is wrong with it.
pub fn sidecar(text: &str, file: &str, name: &str) -> Result<Plugin, Errors> {
    read(text, file, name, &|name| std::env::var(name).ok())
}

pub(super) fn read(text: &str, file: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Plugin, Errors> {
    let mut tree = yaml::read(text, env);
    let mut found = std::mem::take(&mut tree.faults);
    if let Some((line, text)) = tree.broken {
        let mut all = placed(found, file, &tree.lines);
        all.push(Problem { file: file.to_owned(), line: Some(line), path: String::new(), text });
        return Err(Errors(all));
    }
    if let Some(map) = tree.value.as_object_mut() {
        own_name(map, name, &mut found);
    }
    // From here on it is the one entry of a configuration's `plugins`.
    let mut value = json!({ "plugins": [tree.value] });
    let expanded = tree.expanded.into_iter().map(|(pointer, one)| (format!("/plugins/0{pointer}"), one)).collect();
    let mut later = match faults::check(&mut value, &expanded) {
        Ok(more) => more,
        Err(text) => vec![Finding::new("", text)],
    };
    let (draft, more) = Draft::new(value, &later);
    merge(&mut later, more);
    let entry = draft.file.plugins.first();
    if let Some(entry) = entry {
        let mut more = Vec::new();
        check::plugin(ENTRY, entry, &mut more);
        merge(&mut later, more);
    }
    for one in &mut later {
        one.path =
            one.path.strip_prefix(ENTRY).map_or(one.path.as_str(), |rest| rest.trim_start_matches('.')).to_owned();
    }
    merge(&mut found, later);
    match entry.and_then(build::plugin) {
        Some(plugin) if found.is_empty() => Ok(plugin),
        _ => {
            found.iter_mut().for_each(|one| hide(one, expanded.values()));
            Err(refused(found, file, &tree.lines))
        }
    }
}

/// The file's name is the plugin's: what chains name has to be found again.
fn own_name(map: &mut Map<String, Value>, name: &str, found: &mut Vec<Finding>) {
    match map.get("name") {
        Some(Value::String(given)) if given != name => {
            let text = format!("the file's name says {name:?}; take the key out, or rename the file");
            found.push(Finding::new("name", text));
        }
        Some(_) => {}
        None => {
            map.insert("name".to_owned(), Value::String(name.to_owned()));
        }
    }
}

fn refused(mut found: Vec<Finding>, file: &str, lines: &Lines) -> Errors {
    if found.is_empty() {
        found.push(Finding::new("", "not readable; see config/schema.json"));
    }
    Errors(placed(found, file, lines))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Attach, Canary, OnError};
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "SECRET").then(|| "hunter2".to_owned())
    }

    fn wrong(text: &str) -> Vec<String> {
        read(text, "geo.yaml", "geo", &env).expect_err(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_holds_what_an_entry_holds_and_where_it_attaches() {
        let text = "config: { key: \"${SECRET}\" }
max_memory: 32MiB
deadline: 5ms
on_error: open
wasi: stub
canary: { percent: 10, for: 1m }
attach: [ { route: \"orders-*\", order: 10 }, { route: prices } ]
";
        let plugin = read(text, "geo.yaml", "geo", &env).unwrap();
        assert_eq!((plugin.name.as_str(), plugin.file.as_deref()), ("geo", None));
        assert_eq!(plugin.config.0, json!({ "key": "hunter2" }));
        assert!(!format!("{plugin:?}").contains("hunter2"));
        assert_eq!((plugin.max_memory, plugin.deadline), (32 << 20, Duration::from_millis(5)));
        assert_eq!((plugin.on_error, plugin.wasi_stub), (OnError::Open, true));
        assert_eq!(plugin.canary, Some(Canary { percent: 10, duration: Duration::from_secs(60) }));
        let attach = |route: &str, order| Attach { route: route.to_owned(), order };
        assert_eq!(plugin.attach, [attach("orders-*", 10), attach("prices", 0)]);
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let plugin = read("", "geo.yaml", "geo", &env).unwrap();
        assert_eq!((plugin.name.as_str(), plugin.max_memory, plugin.on_error), ("geo", 16 << 20, OnError::Closed));
    }

    #[test]
    fn all_its_errors_come_at_once_with_line_and_remedy() {
        let text = "name: other
file: ../x.wasm
max_memory: lots
on_eror: open
canary: { percent: 100 }
attach:
  - { order: 1 }
  - { route: a, order: first }
";
        assert_eq!(
            wrong(text),
            [
                "geo.yaml:1: name: the file's name says \"geo\"; take the key out, or rename the file",
                "geo.yaml:2: file: \"../x.wasm\" is no component in plugins_dir; give a plain file name that ends in .wasm",
                "geo.yaml:3: max_memory: not a size; write bytes or a number with its unit, such as \"64KiB\" or \"1MiB\"",
                "geo.yaml:4: on_eror: unknown key; did you mean \"on_error\"?",
                "geo.yaml:5: canary.percent: 100 is out of range; use 1 to 99",
                "geo.yaml:7: attach[0].route: missing; add it",
                "geo.yaml:8: attach[1].order: expected a whole number, found text",
            ]
        );
        assert_eq!(wrong("a: [1\nb: 2"), ["geo.yaml:2: not valid YAML: illegal placement of ':' indicator"]);
        assert_eq!(wrong("- a"), ["geo.yaml: expected a map, found a list"]);
        let shown = wrong("on_error: \"${SECRET}\"").join("");
        assert!(shown.contains("${SECRET}") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_component_whose_name_no_chain_could_name_is_refused() {
        let errors = read("", "a b.yaml", "a b", &env).unwrap_err();
        assert!(errors.to_string().contains("cannot name a plugin"), "{errors}");
    }
}
