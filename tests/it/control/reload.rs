//! What an operator has changed, and a configuration file that is read again.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tests::Gateway;

use super::{Controlled, what};
use crate::raw::Raw;

/// A gateway with a control socket and a configuration file.
struct Configured {
    controlled: Controlled,
    file: PathBuf,
}

impl Configured {
    fn start(text: &str) -> Configured {
        let builder = Gateway::builder();
        let (file, path) = (builder.path("gateway.toml"), builder.path("control"));
        fs::write(&file, with_socket(text)).unwrap();
        let gateway = builder.start(&["--config".into(), file.clone().into_os_string()]);
        Configured { controlled: Controlled { gateway, path }, file }
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, with_socket(text)).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let exports = self.controlled.operator().run("exports");
        let names = exports["exports"].as_array().unwrap().iter();
        names.map(|export| export["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// The path is relative to the file.
fn with_socket(text: &str) -> String {
    format!("[server]\ncontrol = 'control'\n{text}")
}

fn memory(name: &str) -> String {
    format!("[[export]]\nname = '{name}'\ndriver = 'memory'\nproperties.size = '1M'\n")
}

#[test]
fn what_was_added_stays_and_what_was_removed_comes_back() {
    let configured = Configured::start(&[memory("a"), memory("b")].concat());
    let mut operator = configured.controlled.operator();
    let add = |name: &str, size: &str| {
        let export = json!({ "name": name, "driver": "memory", "properties": { "size": size } });
        json!({ "command": "add", "export": export })
    };
    assert!(operator.ask(&add("x", "1M")).is_ok() && operator.ask(&add("c", "2M")).is_ok());
    let mut x = Raw::open(configured.controlled.socket(), "x");
    assert_eq!(x.write(0, 0, &[1; 512]), 0);
    assert!(operator.about("remove", "a").is_ok());
    assert_eq!(configured.names(), ["b", "x", "c"]);
    assert_eq!(operator.run("reload"), json!({ "added": 1, "removed": 0, "changed": 0 }));
    assert_eq!(configured.names(), ["a", "b", "x", "c"]);
    // One of the file takes the place of one that was added.
    configured.write(&[memory("b"), memory("c")].concat());
    assert_eq!(operator.run("reload"), json!({ "added": 0, "removed": 1, "changed": 2 }));
    assert_eq!(configured.names(), ["b", "c", "x"]);
    assert_eq!(Raw::open(configured.controlled.socket(), "c").size_bytes, 1 << 20);
    assert_eq!(x.read(0, 512), Ok(vec![1; 512]), "it notices nothing");
    // Now it belongs to the file.
    configured.write(&memory("b"));
    assert_eq!(operator.run("reload"), json!({ "added": 0, "removed": 1, "changed": 0 }));
    assert_eq!(configured.names(), ["b", "x"]);
    configured.controlled.gateway.stop();
}

#[test]
fn a_pause_lasts_over_a_reload() {
    let configured = Configured::start(&memory("a"));
    let mut operator = configured.controlled.operator();
    assert!(operator.about("pause", "a").is_ok());
    configured.write(&[memory("a"), memory("b")].concat());
    let _ = operator.run("reload");
    assert_eq!(
        (operator.state("a").as_deref(), operator.state("b").as_deref()),
        (Some("paused"), Some("serving"))
    );
    configured.controlled.gateway.stop();
}

#[test]
fn a_wrong_file_is_told_to_whoever_asked_for_the_reload() {
    let configured = Configured::start(&memory("a"));
    let mut operator = configured.controlled.operator();
    configured.write("[[export]]\nname = 1\ndriver = 'memroy'\n");
    let error = operator.ask(&json!({ "command": "reload" })).unwrap_err();
    assert!(what(&error).contains("gateway.toml:4:8: "), "{error}");
    assert!(what(&error["more"][0]).contains("gateway.toml:5:10: "), "{error}");
    let missing = "[[export]]\nname = 'b'\ndriver = 'io_uring'\nproperties.path = '/nonexistent'\n";
    configured.write(&[&memory("a"), missing].concat());
    let error = operator.ask(&json!({ "command": "reload" })).unwrap_err();
    assert!(what(&error).contains("/nonexistent"), "{error}");
    assert_eq!(configured.names(), ["a"]);
    configured.controlled.gateway.stop();
}
