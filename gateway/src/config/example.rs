//! `config.example.toml`: written from the doc comments of the structs, and a config that starts the demo.

use super::settings::{Setting, settings};

/// The two settings that the example changes; everything else stands there with its default, commented out.
const DEMO: &[(&str, &str)] = &[("http-addr", "\"127.0.0.1:8080\""), ("demo", "true")];

const HEAD: &str = "\
# minikv, all settings. Written by `minikv config example`; a test keeps it true.
#
# Started with this file, minikv opens a demo on this machine:
#
#   cargo run --release -- --config config.example.toml
#   curl localhost:8080/health/ready
#   curl -X PUT localhost:8080/s3/mybucket/hello -d \"hi\"
#   curl localhost:8080/s3/mybucket/hello
#
# A flag beats an environment variable, a variable beats this file, this file beats the default.
# Every variable may also be given as NAME_FILE, the path of a file that holds the value.
";

/// The whole file.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for setting in settings() {
        let (of, key) = setting.path.split_once('.').unwrap_or(("", setting.path));
        if of != section {
            text.push_str(&format!("\n[{of}]\n"));
            section = of;
        }
        text.push('\n');
        for line in &setting.docs {
            text.push_str(format!("# {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("# {}\n", also_as(setting)));
        let demo = DEMO.iter().find(|(path, _)| *path == setting.path);
        match (demo, &setting.default) {
            (Some((_, value)), _) => text.push_str(&format!("{key} = {value}\n")),
            (None, Some(value)) => text.push_str(&format!("#{key} = {value}\n")),
            (None, None) => text.push_str(&format!("#{key} = \"\"\n")),
        }
    }
    text
}

fn also_as(setting: &Setting) -> String {
    let variables = setting.variables().join(" or ");
    if setting.is_flag() {
        format!("(--{}, {variables})", setting.path)
    } else {
        format!("({variables})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment, ListenAddr, load, sources::Given};

    fn path() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../config.example.toml")
    }

    /// The file in the repository is what the structs say. After a change:
    /// `cargo run -- config example > config.example.toml`
    #[test]
    fn example_file_says_what_the_structs_say() {
        let written = std::fs::read_to_string(path()).unwrap_or_default();
        assert_eq!(
            written,
            example(),
            "run: cargo run -- config example > config.example.toml"
        );
    }

    /// The example opens the demo and changes nothing else.
    #[test]
    fn example_file_is_the_demo() {
        let given = Given {
            config: Some(path()),
            ..Given::default()
        };
        let loaded = load(&given, &Environment::default()).unwrap();
        let expected = Config {
            http_addr: ListenAddr::loopback(8080),
            demo: true,
            ..Config::default()
        };
        assert_eq!(loaded.config, expected);
    }

    /// Uncommenting a line gives the default, so the file tells the truth about defaults too.
    #[test]
    fn commented_lines_are_the_defaults() {
        let text: String = example()
            .lines()
            .filter(|line| !line.starts_with("# ") && *line != "#" && !line.ends_with("= \"\""))
            .filter(|line| !DEMO.iter().any(|(path, _)| line.starts_with(path)))
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .collect();
        let config: Config = toml::from_str::<toml::Table>(&text)
            .map(|table| {
                let mut all = toml::Table::try_from(Config::default()).unwrap();
                all.extend(table);
                all.try_into().unwrap()
            })
            .unwrap();
        assert_eq!(config, Config::default());
    }
}
