//! The configuration of a node as its commands show it.

use serde_json::{Value, json};

use super::harness::{Ran, cpe, run};

fn show(file: &str, env: &[(&str, &str)], flags: &[&str]) -> Value {
    let mut command = cpe();
    command
        .args(["config", "show", "--json", "--config", file])
        .args(flags);
    Ran::of(command.envs(env.iter().copied()).output().unwrap()).json()
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.toml");
    std::fs::write(
        &path,
        "[mesh]\nshards = 8\nmdns = true\n[log]\nfilter = \"warn\"\n",
    )
    .unwrap();
    let file = path.to_str().unwrap();

    let env = [("CPE_MESH_SHARDS", "16"), ("CPE_LOG", "debug")];
    let shown = show(file, &env, &["--log", "trace"]);
    let line = |line: u32| format!("{file}:{line}");
    assert_eq!(
        shown["mesh.mdns"],
        json!({"value": true, "source": line(3)})
    );
    let shards = json!({"value": 16, "source": "environment CPE_MESH_SHARDS"});
    assert_eq!(shown["mesh.shards"], shards);
    assert_eq!(
        shown["log.filter"],
        json!({"value": "trace", "source": "flag --log"})
    );
    assert_eq!(
        shown["node.name"],
        json!({"value": "", "source": "default"})
    );
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_the_nearest_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.toml");
    std::fs::write(&path, "[mesh]\nbootstrp = []\n").unwrap();
    let file = path.to_str().unwrap();
    for args in [&["config", "check", file][..], &["node", "--config", file]] {
        let ran = run(args).code(2).says("did you mean `mesh.bootstrap`?");
        assert!(
            ran.err
                .contains("n.toml:2: unknown setting `mesh.bootstrp`"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    run(&["node", "--config", "/nowhere/n.toml"])
        .code(2)
        .says("/nowhere/n.toml");
}

#[test]
fn a_wrong_environment_variable_is_named() {
    let mut command = cpe();
    let output = command
        .args(["config", "show"])
        .env("CPE_MESH_MDNS", "maybe")
        .output()
        .unwrap();
    Ran::of(output)
        .code(2)
        .says("CPE_MESH_MDNS")
        .says("neither true nor false");
}

#[test]
fn the_configurations_to_copy_pass_the_check() {
    let configs = format!("{}/../configs", env!("CARGO_MANIFEST_DIR"));
    for name in [
        "node.toml",
        "lan-of-three/a.toml",
        "lan-of-three/b.toml",
        "lan-of-three/c.toml",
    ] {
        run(&["config", "check", &format!("{configs}/{name}")]).code(0);
    }
}
