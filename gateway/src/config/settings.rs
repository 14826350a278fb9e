//! The settings as a flat list: path, flag, variables, words of help. Derived from the structs, never written twice.

use std::sync::OnceLock;

use super::documented::Field;
use super::{Config, Limits, Store};

/// One thing that can be set.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `s3-addr`, `limits.connections`: its place in the file. A path without a dot is a flag too.
    pub path: &'static str,
    /// Doc lines without leading space.
    pub docs: Vec<&'static str>,
    /// As it stands in a file; `None` when there is none (a random one is made).
    pub default: Option<toml::Value>,
}

/// Fields that are tables of their own.
pub const SECTIONS: &[(&str, &[Field])] = &[("limits", Limits::FIELDS), ("store", Store::FIELDS)];

/// Variables of other names that people already have in their deployments.
const ALIASES: &[(&str, &str)] = &[
    ("root-access-key", "MINIO_ROOT_USER"),
    ("root-secret-key", "MINIO_ROOT_PASSWORD"),
    ("log", "RUST_LOG"),
];

impl Setting {
    /// Whether it may be given as `--path`.
    pub fn is_flag(&self) -> bool {
        !self.path.contains('.') && !self.is_list_of_tables()
    }

    /// Whether it stands in files alone, as `[[path]]`.
    pub fn is_list_of_tables(&self) -> bool {
        self.path == "users"
    }

    /// Whether its value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.path.ends_with("secret-key") || self.is_list_of_tables()
    }

    /// `MINIKV_S3_ADDR`.
    pub fn variable(&self) -> String {
        format!(
            "MINIKV_{}",
            self.path.to_ascii_uppercase().replace(['-', '.'], "_")
        )
    }

    /// Its variable, then the aliases; the first one that is set counts.
    pub fn variables(&self) -> Vec<String> {
        let aliases = ALIASES.iter().filter(|(path, _)| *path == self.path);
        std::iter::once(self.variable())
            .chain(aliases.map(|(_, name)| (*name).to_owned()))
            .collect()
    }

    /// First paragraph of its docs.
    pub fn summary(&self) -> String {
        let first: Vec<&str> = self
            .docs
            .iter()
            .copied()
            .take_while(|line| !line.is_empty())
            .collect();
        first.join(" ")
    }
}

/// All settings, in the order of the structs.
pub fn settings() -> &'static [Setting] {
    static ALL: OnceLock<Vec<Setting>> = OnceLock::new();
    ALL.get_or_init(|| {
        let defaults = toml::Table::try_from(Config::default()).unwrap_or_default();
        let mut all = Vec::new();
        for field in Config::FIELDS {
            let name = kebab(field.name);
            match SECTIONS.iter().find(|(section, _)| *section == name) {
                Some((section, fields)) => {
                    let defaults = defaults.get(*section).and_then(toml::Value::as_table);
                    all.extend(
                        fields
                            .iter()
                            .map(|field| setting(Some(section), field, defaults)),
                    );
                }
                None => all.push(setting(None, field, Some(&defaults))),
            }
        }
        all
    })
}

fn setting(
    section: Option<&str>,
    field: &'static Field,
    defaults: Option<&toml::Table>,
) -> Setting {
    let name = kebab(field.name);
    let default = defaults.and_then(|table| table.get(&name)).cloned();
    let path = match section {
        Some(section) => format!("{section}.{name}"),
        None => name,
    };
    Setting {
        // Once per process and setting: clap wants names that live for ever.
        path: Box::leak(path.into_boxed_str()),
        docs: field
            .docs
            .iter()
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .collect(),
        default,
    }
}

fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setting without an explanation would stand in the example file without one.
    #[test]
    fn every_setting_is_explained() {
        for setting in settings() {
            assert!(
                !setting.summary().is_empty(),
                "{} has no doc comment",
                setting.path
            );
        }
        assert!(
            settings()
                .iter()
                .any(|s| s.path == "limits.connections"
                    && s.variable() == "MINIKV_LIMITS_CONNECTIONS")
        );
    }
}
