//! Layers, bounds, and the files in `configs/`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::layers::{Flag, Settings, Source};
use super::settings::{SETTINGS, nearest};
use super::{Config, LogFormat};

fn no_env(_: &str) -> Option<OsString> {
    None
}

fn file(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// What is wrong with a file, without its folder.
fn complaint(text: impl AsRef<[u8]>) -> String {
    let (folder, path) = file(text);
    let fault = Settings::load(Some(path), &no_env, Vec::new()).unwrap_err();
    let folder = format!("{}/", folder.path().display());
    fault.to_string().replace(&folder, "")
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn defaults_make_a_configuration() {
    let settings = Settings::load(None, &no_env, Vec::new()).unwrap();
    let config = Config::from_settings(&settings).unwrap();
    assert_eq!(config.api.listen, "127.0.0.1:8766");
    assert_eq!(config.log.format, LogFormat::Pretty);
    assert_eq!(config.mesh.listen.len(), 2);
}

#[test]
fn defaults_keep_their_own_bounds() {
    for setting in SETTINGS {
        setting.shape.check((setting.default)()).unwrap();
    }
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let (_folder, path) =
        file("[node]\nname = \"f\"\n[mesh]\nshards = 1\n[log]\nfilter = \"warn\"\n");
    let env = |name: &str| match name {
        "CPE_MESH_SHARDS" => Some(OsString::from("2")),
        "CPE_LOG" => Some(OsString::from("debug")),
        _ => None,
    };
    let flags = vec![Flag {
        key: "log.filter",
        flag: "--log",
        value: json!("trace"),
    }];
    let settings = Settings::load(Some(path.clone()), &env, flags).unwrap();
    let seen: Vec<_> = settings
        .iter()
        .filter(|(_, _, source)| **source != Source::Default)
        .map(|(key, value, source)| (key, value.clone(), source.clone()))
        .collect();
    let expected = [
        ("node.name", json!("f"), Source::File(path, 2)),
        ("mesh.shards", json!(2), Source::Env("CPE_MESH_SHARDS")),
        ("log.filter", json!("trace"), Source::Flag("--log")),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn lists_and_pairs_come_from_the_environment_too() {
    let env = |name: &str| match name {
        "CPE_MESH_BOOTSTRAP" => Some(OsString::from("/ip4/10.0.0.1/tcp/1, /ip4/10.0.0.2/tcp/2")),
        "CPE_NODE_CAPABILITIES" => Some(OsString::from("gpu=yes,zone=a=b")),
        "CPE_API_BODY_BYTES_MAX" => Some(OsString::from("1 MiB")),
        "CPE_NODE_EPHEMERAL" => Some(OsString::from("1")),
        _ => None,
    };
    let config = Config::from_settings(&Settings::load(None, &env, Vec::new()).unwrap()).unwrap();
    assert_eq!(
        config.mesh.bootstrap,
        ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2"]
    );
    assert_eq!(config.node.capabilities["zone"], "a=b");
    assert_eq!(config.api.body_bytes_max, 1 << 20);
    assert!(config.node.ephemeral);
}

#[test]
fn an_unknown_setting_is_named_with_its_line_and_the_nearest_right_one() {
    let wrong = complaint("[mesh]\n\nbootstrp = []\n");
    assert!(
        wrong.starts_with("node.toml:3: unknown setting `mesh.bootstrp`"),
        "{wrong}"
    );
    assert!(wrong.contains("did you mean `mesh.bootstrap`?"), "{wrong}");

    let wrong = complaint("[node]\nbootstrap = []\n");
    assert!(wrong.contains("did you mean `mesh.bootstrap`?"), "{wrong}");

    let wrong = complaint("[mehs]\nlisten = []\n");
    assert!(wrong.contains("did you mean `[mesh]`?"), "{wrong}");

    let wrong = complaint("listen = []\n");
    assert!(wrong.contains("did you mean"), "{wrong}");
}

#[test]
fn far_names_get_no_silly_suggestion() {
    assert_eq!(nearest("mesh.zzzzzzzzzzzzzzz"), None);
}

#[test]
fn values_out_of_bounds_are_refused_with_line_and_bounds() {
    for (text, part) in [
        (
            "[mesh]\nshards = 70000\n",
            "node.toml:2: mesh.shards: 70000 is out of bounds: 1 to",
        ),
        ("[mesh]\nshards = \"8\"\n", "expected 1 to 4096 shards"),
        (
            "[node]\nstop_within = 10\n",
            "expected a time with its unit",
        ),
        ("[node]\nstop_within = \"10 parsecs\"\n", "is no time"),
        (
            "[node]\nstop_within = \"2h\"\n",
            "out of bounds: 100ms to 10m",
        ),
        ("[api]\nbody_bytes_max = \"1 TB\"\n", "is no size"),
        ("[api]\nbody_bytes_max = 1\n", "out of bounds: 4096 to"),
        ("[api]\nlisten = \"8766\"\n", "is no address"),
        ("[api]\nlisten = \"::1:8766\"\n", "ambiguous"),
        ("[mesh]\nlisten = [\"tcp://0.0.0.0\"]\n", "is no multiaddr"),
        ("[mesh]\nlisten = [4710]\n", "must be text in quotes"),
        ("[log]\nformat = \"xml\"\n", "none of pretty, json"),
        ("[node.capabilities]\ncores = 4\n", "`cores` must be text"),
        ("[node]\nname = 1 2\n", "node.toml:2:"),
    ] {
        let wrong = complaint(text);
        assert!(wrong.contains(part), "{text:?} gave {wrong:?}");
    }
}

#[test]
fn a_file_that_is_not_text_is_refused_with_its_line() {
    let wrong = complaint(b"[node]\nname = \"\xff\"\n");
    assert_eq!(wrong, "node.toml:2: not UTF-8 text");
}

#[test]
fn paths_in_a_file_count_from_its_folder() {
    let (folder, path) = file("[node]\ndata = \"d\"\n[mesh]\nkey = \"/etc/mesh.key\"\n");
    let settings = Settings::load(Some(path), &no_env, Vec::new()).unwrap();
    let config = Config::from_settings(&settings).unwrap();
    assert_eq!(config.node.data, Some(folder.path().join("d")));
    assert_eq!(config.mesh.key, Path::new("/etc/mesh.key"));
}

#[test]
fn the_commented_configuration_shows_every_setting_at_its_default() {
    let path = repository("configs/node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Every setting stands there behind `# `, ready to be taken into use.
    let active: String = text
        .lines()
        .map(|line| match line.strip_prefix("#: ") {
            Some(setting) => format!("{setting}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let (_folder, path) = file(active);
    let settings = Settings::load(Some(path.clone()), &no_env, Vec::new()).unwrap();
    for ((key, value, source), setting) in settings.iter().zip(SETTINGS) {
        assert!(
            matches!(source, Source::File(..)),
            "{key} is not in configs/node.toml"
        );
        let default = setting.shape.check((setting.default)()).unwrap();
        let default = setting.shape.anchor(default, path.parent().unwrap());
        let shown = if key == "node.capabilities" {
            json!({})
        } else {
            value.clone()
        };
        assert_eq!(
            shown, default,
            "{key} is not shown at its default in configs/node.toml"
        );
        assert!(
            text.contains(setting.env),
            "{} is not in configs/node.toml",
            setting.env
        );
    }
}

#[test]
fn the_configurations_to_copy_are_right() {
    for name in [
        "node.toml",
        "lan-of-three/a.toml",
        "lan-of-three/b.toml",
        "lan-of-three/c.toml",
    ] {
        let path = repository("configs").join(name);
        let settings = Settings::load(Some(path), &no_env, Vec::new()).unwrap();
        Config::from_settings(&settings).unwrap();
    }
}

#[test]
fn a_setting_of_the_table_is_a_field_and_the_other_way_round() {
    let settings = Settings::load(None, &no_env, Vec::new()).unwrap();
    let mut nested = settings.nested();
    nested["node"]["more"] = Value::Null;
    assert!(serde_json::from_value::<Config>(nested).is_err());
    for (key, _, _) in settings.iter() {
        let mut nested = settings.nested();
        let (section, name) = key.split_once('.').unwrap();
        nested[section].as_object_mut().unwrap().remove(name);
        assert!(
            serde_json::from_value::<Config>(nested).is_err(),
            "{key} is no field"
        );
    }
}
