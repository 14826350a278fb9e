//! The promises of the configuration, checked through `load` as a server uses it.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::sources::Given;
use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("minikv.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn loaded(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Loaded, ConfigError> {
    let (_dir, path) = file(text);
    let flags = flags
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    load(
        &Given {
            config: Some(path),
            flags,
        },
        &Environment::of(environment),
    )
}

/// Each source beats the ones below it, setting by setting.
#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let text = "s3-addr = \"127.0.0.1:1\"\nhttp-addr = \"127.0.0.1:2\"\nrpc-addr = \"127.0.0.1:3\"";
    let environment = [
        ("MINIKV_S3_ADDR", "127.0.0.1:11"),
        ("MINIKV_HTTP_ADDR", "127.0.0.1:12"),
    ];
    let loaded = loaded(text, &environment, &[("s3-addr", "127.0.0.1:21")]).unwrap();
    let config = &loaded.config;
    let ports = [config.s3_addr, config.http_addr, config.rpc_addr].map(|addr| addr.0.port());
    assert_eq!(ports, [21, 12, 3]);
    assert_eq!(config.data_dir, PathBuf::from("./minikv-data"));
    assert_eq!(loaded.origin("s3-addr"), Origin::Flag("s3-addr".into()));
    assert_eq!(
        loaded.origin("http-addr"),
        Origin::Variable("MINIKV_HTTP_ADDR".into())
    );
    assert!(
        loaded
            .origin("rpc-addr")
            .to_string()
            .ends_with("minikv.toml:3")
    );
    assert_eq!(loaded.origin("data-dir"), Origin::Default);
}

/// A key that nobody reads must not silently do nothing.
#[test]
fn unknown_key_is_refused_and_the_nearest_named() {
    let message = |text: &str| loaded(text, &[], &[]).unwrap_err().to_string();
    let words = message("# two lines\ndata_dir = \"/x\"");
    assert!(
        words.contains("minikv.toml:2") && words.contains("`data_dir`; did you mean `data-dir`?"),
        "{words}"
    );
    let words = message("[limits]\nconnection = 5");
    assert!(
        words.contains("did you mean `limits.connections`?"),
        "{words}"
    );
    let words = message("[telemetry]\nendpoint = 5");
    assert!(
        words.contains("`telemetry.endpoint`") && words.contains("minikv config example"),
        "{words}"
    );
    assert!(message("s3-addr = ").contains("not valid TOML"));
}

/// A value that a setting cannot take is told with its place and what would do.
#[test]
fn bad_value_names_its_place() {
    let message = |text: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]| {
        loaded(text, environment, flags).unwrap_err().to_string()
    };
    let words = message("fsync = \"sometimes\"", &[], &[]);
    assert!(
        words.contains("minikv.toml:1") && words.contains("always, interval, never"),
        "{words}"
    );
    let words = message("", &[("MINIKV_LIMITS_CONNECTIONS", "many")], &[]);
    assert!(
        words.contains("MINIKV_LIMITS_CONNECTIONS") && words.contains("whole number"),
        "{words}"
    );
    let words = message("", &[], &[("s3-addr", "9000")]);
    assert!(
        words.contains("--s3-addr") && words.contains("has no port"),
        "{words}"
    );
    let words = message("limits = 5", &[], &[]);
    assert!(words.contains("limits"), "{words}");
    let words = message("[limits]\nconnections = 0", &[], &[]);
    assert!(words.contains("limits.connections"), "{words}");
    // A wrong value in the file is a mistake even when a flag covers it.
    assert!(loaded("fsync = \"sometimes\"", &[], &[("fsync", "always")]).is_err());
}

/// Every variable may name a file instead; people's MINIO_* variables keep working.
#[test]
fn credentials_come_from_variables_files_and_aliases() {
    let (_dir, path) = file("from-a-file-0123456789\n");
    let path = path.to_str().unwrap();
    let loaded =
        |environment: &[(&str, &str)]| load(&Given::default(), &Environment::of(environment));
    let secret = |environment: &[(&str, &str)]| {
        loaded(environment)
            .unwrap()
            .config
            .root_secret_key
            .unwrap()
            .expose()
            .to_owned()
    };
    let key = ("MINIKV_ROOT_ACCESS_KEY", "root");
    assert_eq!(
        secret(&[key, ("MINIKV_ROOT_SECRET_KEY_FILE", path)]),
        "from-a-file-0123456789"
    );
    assert_eq!(
        secret(&[
            ("MINIO_ROOT_USER", "root"),
            ("MINIO_ROOT_PASSWORD_FILE", path)
        ]),
        "from-a-file-0123456789"
    );
    let both = [
        ("MINIO_ROOT_PASSWORD", "the-alias"),
        ("MINIKV_ROOT_SECRET_KEY", "the-name"),
        key,
    ];
    assert_eq!(secret(&both), "the-name");
    let twice = [
        key,
        ("MINIKV_ROOT_SECRET_KEY", "a"),
        ("MINIKV_ROOT_SECRET_KEY_FILE", path),
    ];
    assert!(matches!(loaded(&twice), Err(ConfigError::BothForms { .. })));
    let gone = [key, ("MINIKV_ROOT_SECRET_KEY_FILE", "/nonexistent/secret")];
    assert!(
        loaded(&gone)
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/secret")
    );
    assert!(matches!(
        loaded(&[key]),
        Err(ConfigError::HalfCredentials { .. })
    ));
    // Compose files pass `${X:-}` on: set to nothing is not set.
    assert_eq!(
        loaded(&[("MINIKV_ROOT_ACCESS_KEY", "")])
            .unwrap()
            .config
            .root_access_key,
        None
    );
}

/// Whoever opens a port to the network needs a secret that cannot be guessed.
#[test]
fn guessable_credentials_stay_on_this_machine() {
    let start = |addr: &str, access: &str, secret: &str| {
        let flags = [
            ("s3-addr", addr),
            ("root-access-key", access),
            ("root-secret-key", secret),
        ];
        loaded("", &[], &flags)
    };
    assert!(start("127.0.0.1:9000", "minioadmin", "minioadmin").is_ok());
    for (access, secret) in [
        ("minioadmin", "minioadmin"),
        ("root", "short"),
        ("samesame1", "samesame1"),
        ("root", "Password"),
    ] {
        let words = start("0.0.0.0:9000", access, secret)
            .unwrap_err()
            .to_string();
        assert!(
            words.contains("s3-addr = 0.0.0.0:9000") && words.contains("MINIKV_ROOT_SECRET_KEY"),
            "{words}"
        );
        assert!(!words.contains(&format!("`{secret}`")), "{words}");
    }
    assert!(start("0.0.0.0:9000", "root", "kzxd-8812-qmwe").is_ok());
    assert!(matches!(
        start("127.0.0.1:9000", "a/b", "kzxd-8812-qmwe"),
        Err(ConfigError::OddAccessKey)
    ));
    // Kept from an earlier start, and judged the same.
    let open = Config {
        s3_addr: "0.0.0.0:9000".parse().unwrap(),
        ..Config::default()
    };
    assert!(check::guarded(&open, "minioadmin", "minioadmin").is_err());
    assert!(check::guarded(&Config::default(), "minioadmin", "minioadmin").is_ok());
}

/// The demo lets everybody write; so nobody but this machine may reach it.
#[test]
fn demo_stays_on_this_machine() {
    assert!(loaded("demo = true", &[], &[]).is_ok());
    for setting in ["s3-addr", "http-addr", "rpc-addr"] {
        let words = loaded("demo = true", &[], &[(setting, "0.0.0.0:7777")])
            .unwrap_err()
            .to_string();
        assert!(
            words.contains(setting) && words.contains("demo = false"),
            "{words}"
        );
    }
}

/// Two servers of one process cannot share an address.
#[test]
fn one_address_serves_one_port() {
    let same = [("s3-addr", "127.0.0.1:9001")];
    assert!(matches!(
        loaded("", &[], &same),
        Err(ConfigError::SameAddress { .. })
    ));
    assert!(
        loaded(
            "",
            &[],
            &[("s3-addr", "127.0.0.1:0"), ("http-addr", "127.0.0.1:0")]
        )
        .is_ok()
    );
}

/// A slip in a variable's name is told; what Kubernetes injects for a service called minikv is left alone.
#[test]
fn slip_in_a_variable_is_a_warning() {
    let environment = [
        ("MINIKV_DATADIR", "/x"),
        ("MINIKV_PORT_9000_TCP_PROTO", "tcp"),
        ("MINIKV_SERVICE_HOST", "10.0.0.1"),
        ("MINIKV_ROOT_SECRET_KEY_FILE", ""),
        ("MINIKV_CONFIG", ""),
    ];
    let loaded = load(&Given::default(), &Environment::of(&environment)).unwrap();
    assert_eq!(
        loaded.warnings,
        ["the variable MINIKV_DATADIR is not used; did you mean MINIKV_DATA_DIR?"]
    );
}

/// systemd says where state belongs; a flag still beats it.
#[test]
fn state_directory_of_systemd_is_the_default() {
    let environment = Environment::of(&[("STATE_DIRECTORY", "/var/lib/minikv:/var/lib/other")]);
    let loaded = load(&Given::default(), &environment).unwrap();
    assert_eq!(loaded.config.data_dir, PathBuf::from("/var/lib/minikv"));
    assert_eq!(
        sources::data_dir(None, &environment).unwrap(),
        PathBuf::from("/var/lib/minikv")
    );
    let flag = Given {
        flags: vec![("data-dir", "/x".into())],
        ..Given::default()
    };
    assert_eq!(
        load(&flag, &environment).unwrap().config.data_dir,
        PathBuf::from("/x")
    );
}

/// Lists are written with commas outside of files.
#[test]
fn domains_are_a_list() {
    let from = |text: &str, flags: &[(&'static str, &str)]| {
        loaded(text, &[], flags).map(|l| l.config.domains)
    };
    assert_eq!(
        from("domains = [\"s3.example.org\"]", &[]).unwrap(),
        ["s3.example.org"]
    );
    assert_eq!(
        from("", &[("domains", "a.example, b.example")]).unwrap(),
        ["a.example", "b.example"]
    );
    assert!(from("", &[("domains", "http://a.example")]).is_err());
}

/// Users stand in the file; a mistake in one is told by its number, and never with its secret.
#[test]
fn users_are_checked_one_by_one() {
    let user = |key: &str, more: &str| {
        format!("[[users]]\naccess-key = \"{key}\"\nsecret-key = \"canary-8812\"\n{more}\n")
    };
    let from = |text: &str| {
        loaded(
            text,
            &[],
            &[
                ("root-access-key", "root"),
                ("root-secret-key", "kzxd-8812"),
            ],
        )
    };
    let two = user("alice", "canonical_id = \"a1\"\ndisplay_name = \"Alice\"") + &user("bob", "");
    let users = from(&two).unwrap().config.users;
    assert_eq!(
        (users[0].owner_id().as_str(), users[0].name()),
        ("a1", "Alice")
    );
    assert_eq!((users[1].owner_id().len(), users[1].name()), (64, "bob"));
    assert_ne!(users[0].tenant_name(), users[1].tenant_name());
    for (text, words) in [
        (
            user("alice", "") + &user("alice", ""),
            "user 2 of [[users]]: its access-key alice is that of user 1",
        ),
        (user("root", ""), "is root's"),
        (user("a/b", ""), "access-key must be"),
        (user("alice", "canonical-id = \"\""), "canonical-id must be"),
        (
            user("alice", &format!("canonical-id = \"{:064x}\"", 1)),
            "that of a tenant",
        ),
        (user("alice", "tenant = \"demo\""), "cannot be its tenant"),
        (
            user("alice", "canonical-id = \"x\"") + &user("bob", "canonical-id = \"x\""),
            "twice",
        ),
        (user("alice", "colour = \"x\""), "colour"),
        (
            "[[users]]\naccess-key = \"alice\"\nsecret-key = \"short\"".to_owned(),
            "fewer than 8",
        ),
        ("[[users]]\naccess-key = \"alice\"".to_owned(), "secret-key"),
        ("users = \"alice\"".to_owned(), "users"),
        ("[[users]]\nsecret-key = \"canary-8812".to_owned(), "line 2"),
    ] {
        let said = from(&text).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

/// Half a certificate, or two sources of one, is a mistake that is told before anything starts.
#[test]
fn certificate_has_one_source_and_two_halves() {
    let words = |flags: &[(&'static str, &str)]| loaded("", &[], flags).unwrap_err().to_string();
    assert!(words(&[("tls-cert", "/c.pem")]).contains("without tls-key"));
    assert!(words(&[("tls-key", "/k.pem")]).contains("without tls-cert"));
    assert!(words(&[("tls", "auto"), ("tls-cert", "/c"), ("tls-key", "/k")]).contains("leave out"));
    assert!(words(&[("tls", "on")]).contains("files, auto"));
    let pem = words(&[
        ("tls-cert", "/c"),
        ("tls-key", "-----BEGIN PRIVATE KEY-----\ncanary"),
    ]);
    assert!(pem.contains("path") && !pem.contains("canary"), "{pem}");
    assert!(loaded("", &[], &[("tls", "auto")]).is_ok());
}
