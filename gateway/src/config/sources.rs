//! Where settings come from, and which one counts: flag, environment, file, default.
//!
//! ```text
//!   defaults <- file <- environment (X or X_FILE) <- flags        each setting by itself
//! ```
//! Always true:
//! * every setting knows where its value came from, so that an error can say so;
//! * a variable that is set to nothing counts as not set (compose files pass `${FOO:-}` on);
//! * foreign variables that begin with `MINIKV_` are no errors: Kubernetes injects `MINIKV_PORT` and the like
//!   into every pod when a service is called minikv. Those that look like a slip are reported as warnings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::error::ConfigError;
use super::nearest::nearest;
use super::settings::{SECTIONS, Setting, settings};
use super::{Config, check};

/// Variables that are no settings, but ours.
const OTHER_VARIABLES: &[&str] = &["MINIKV_CONFIG", "MINIKV_ENDPOINT", "MINIKV_HTTP_ENDPOINT"];

/// The environment variables of the process, or of a test.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process; what is not UTF-8 cannot be a setting of ours.
    pub fn of_process() -> Environment {
        let vars = std::env::vars_os();
        Environment(
            vars.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// For tests.
    pub fn of(pairs: &[(&str, &str)]) -> Environment {
        Environment(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
    }

    /// The value, unless it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of `name`, or what stands in the file that `name_FILE` names.
    pub fn get_or_file(&self, name: &str) -> Result<Option<(String, Origin)>, ConfigError> {
        let file_variable = format!("{name}_FILE");
        match (self.get(name), self.get(&file_variable)) {
            (Some(_), Some(_)) => Err(ConfigError::BothForms {
                variable: name.to_owned(),
            }),
            (Some(value), None) => Ok(Some((value.to_owned(), Origin::Variable(name.to_owned())))),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                // Editors and `echo` end files with a newline that is no part of the secret.
                Ok(text) => Ok(Some((
                    text.trim_end_matches(['\r', '\n']).to_owned(),
                    Origin::Variable(file_variable),
                ))),
                Err(cause) => Err(ConfigError::ValueFile {
                    variable: file_variable,
                    path: PathBuf::from(path),
                    cause,
                }),
            },
            (None, None) => Ok(None),
        }
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The config file, at this line when it could be found.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// `--name`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Origin::File(path, None) => write!(f, "{}", path.display()),
            Origin::Variable(name) => write!(f, "{name}"),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Config file.
    pub config: Option<PathBuf>,
    /// Setting path and value.
    pub flags: Vec<(&'static str, String)>,
}

/// A configuration and its history.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The result.
    pub config: Config,
    /// Origin of every setting that is not a default.
    pub origins: BTreeMap<&'static str, Origin>,
    /// What looks like a slip but is no error.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Where a setting's value came from.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }
}

/// Puts the sources together and refuses what cannot be started.
pub fn load(given: &Given, environment: &Environment) -> Result<Loaded, ConfigError> {
    let mut layers: Vec<(&'static Setting, Value, Origin)> = Vec::new();

    if let Some(path) = default_data_dir(environment) {
        layers.extend(found("data-dir").map(|s| {
            (
                s,
                Value::String(path),
                Origin::Variable("STATE_DIRECTORY".into()),
            )
        }));
    }
    let file = given
        .config
        .clone()
        .or_else(|| environment.get("MINIKV_CONFIG").map(PathBuf::from));
    if let Some(path) = &file {
        layers.extend(from_file(path)?);
    }
    for setting in settings().iter().filter(|s| !s.is_list_of_tables()) {
        if let Some((text, origin)) = from_environment(setting, environment)? {
            let value = typed(setting, &text, &origin)?;
            layers.push((setting, value, origin));
        }
    }
    for (path, text) in &given.flags {
        if let Some(setting) = found(path) {
            let origin = Origin::Flag((*path).to_owned());
            let value = typed(setting, text, &origin)?;
            layers.push((setting, value, origin));
        }
    }

    // The last layer wins, but an earlier one that is nonsense is still a mistake worth telling.
    let mut table = defaults();
    let mut origins = BTreeMap::new();
    for (setting, value, origin) in layers {
        try_alone(setting, &value, &origin)?;
        put(&mut table, setting.path, value);
        origins.insert(setting.path, origin);
    }
    let config = Config::deserialize(table).map_err(|cause| ConfigError::BadValue {
        key: "config".to_owned(),
        value: "as given".to_owned(),
        origin: Origin::Default,
        what: cause.to_string(),
    })?;
    check::startable(&config)?;
    Ok(Loaded {
        config,
        origins,
        warnings: slips(environment),
    })
}

/// The data directory alone: client commands need it, and nothing else of a server's settings.
pub fn data_dir(flag: Option<&Path>, environment: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    if let Some((path, _)) = environment.get_or_file("MINIKV_DATA_DIR")? {
        return Ok(PathBuf::from(path));
    }
    Ok(default_data_dir(environment).map_or_else(|| Config::default().data_dir, PathBuf::from))
}

/// systemd passes several directories with colons between them; ours is the first.
fn default_data_dir(environment: &Environment) -> Option<String> {
    let directories = environment.get("STATE_DIRECTORY")?;
    directories.split(':').next().map(str::to_owned)
}

fn found(path: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| setting.path == path)
}

fn defaults() -> Table {
    Table::try_from(Config::default()).unwrap_or_default()
}

fn from_file(path: &Path) -> Result<Vec<(&'static Setting, Value, Origin)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    let table: Table = text
        .parse()
        .map_err(|e: toml::de::Error| ConfigError::NotToml {
            path: path.to_owned(),
            what: in_words(&e, &text),
        })?;
    let mut leaves = Vec::new();
    flatten("", table, &mut leaves);
    let mut layer = Vec::new();
    for (key, value) in leaves {
        let origin = Origin::File(path.to_owned(), line_of(&text, &key));
        match found(&key) {
            Some(setting) => layer.push((setting, value, origin)),
            None => {
                let nearest = nearest(&key, settings().iter().map(|s| s.path)).map(str::to_owned);
                return Err(ConfigError::UnknownKey {
                    key,
                    origin,
                    nearest,
                });
            }
        }
    }
    Ok(layer)
}

/// With the line, and without its text: it may hold a secret.
fn in_words(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start));
    match line {
        Some(before) => format!(
            "line {}: {}",
            before.matches('\n').count() + 1,
            error.message()
        ),
        None => error.message().to_owned(),
    }
}

fn flatten(prefix: &str, table: Table, leaves: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let path = if prefix.is_empty() {
            key
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            // A table where a plain value belongs is reported as an unknown key below it, which is where the eye looks.
            Value::Table(inner) if !inner.is_empty() => flatten(&path, inner, leaves),
            Value::Table(_) if SECTIONS.iter().any(|(section, _)| *section == path) => {}
            value => leaves.push((path, value)),
        }
    }
}

/// The line where a key stands, found without a full parse; only used to help the eye.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let key = path.rsplit('.').next()?;
    let stands_here = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with(['=', '.', ']']))
            || line.strip_prefix("[[") == Some(&format!("{key}]]"))
    };
    text.lines().position(stands_here).map(|at| at + 1)
}

fn from_environment(
    setting: &Setting,
    environment: &Environment,
) -> Result<Option<(String, Origin)>, ConfigError> {
    for variable in setting.variables() {
        if let Some(found) = environment.get_or_file(&variable)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Text from a variable or flag in the type that the setting has in a file.
fn typed(setting: &Setting, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
    let refused = |what: &str| ConfigError::BadValue {
        key: setting.path.to_owned(),
        value: format!("`{text}`"),
        origin: origin.clone(),
        what: what.to_owned(),
    };
    match &setting.default {
        Some(Value::Integer(_)) => text
            .trim()
            .parse()
            .map(Value::Integer)
            .map_err(|_| refused("it must be a whole number")),
        Some(Value::Boolean(_)) => match text.trim() {
            "true" | "1" | "yes" | "on" => Ok(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Boolean(false)),
            _ => Err(refused("it must be true or false")),
        },
        Some(Value::Array(_)) => {
            let words = text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty());
            Ok(Value::Array(
                words.map(|word| Value::String(word.to_owned())).collect(),
            ))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Whether the setting takes this value, everything else being default: the error can then name it.
fn try_alone(setting: &Setting, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
    let mut table = defaults();
    put(&mut table, setting.path, value.clone());
    match Config::deserialize(table) {
        Ok(_) => Ok(()),
        Err(cause) => Err(ConfigError::BadValue {
            key: setting.path.to_owned(),
            value: if setting.is_secret() {
                "that".to_owned()
            } else {
                value.to_string()
            },
            origin: origin.clone(),
            what: cause.message().to_owned(),
        }),
    }
}

fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, key)) => {
            let inner = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                inner.insert(key.to_owned(), value);
            }
        }
    }
}

fn slips(environment: &Environment) -> Vec<String> {
    let settings = settings().iter().filter(|s| !s.is_list_of_tables());
    let ours: Vec<String> = settings.map(Setting::variable).collect();
    let known = |name: &str| {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        ours.iter().any(|v| v == plain) || OTHER_VARIABLES.contains(&name)
    };
    let strangers = environment
        .0
        .keys()
        .filter(|name| name.starts_with("MINIKV_") && !known(name));
    strangers
        .filter_map(|name| {
            let near = nearest(&name[7..], ours.iter().map(|v| &v[7..]))?;
            Some(format!(
                "the variable {name} is not used; did you mean MINIKV_{near}?"
            ))
        })
        .collect()
}
