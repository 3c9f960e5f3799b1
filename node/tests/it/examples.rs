//! The programs under `examples/`, as their pages say they are run.

use std::path::Path;
use std::process::Command;

use super::harness::{Node, Ran};

fn example(name: &str) -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("examples").join(name)
}

#[test]
fn a_second_model_is_trained_while_the_first_one_serves() {
    let nodes = Node::three();
    let mut command = Command::new("python3");
    command.arg(example("second_model.py"));
    command.args(["--cpe", env!("CARGO_BIN_EXE_cpe"), "--api", &nodes[0].api]);
    command.env("NO_COLOR", "1").env_remove("CPE_API");
    let told = Ran::of(command.output().unwrap()).json();
    // Each sighting was judged, and once: the example itself refuses a second verdict.
    assert_eq!(told["verdicts"], told["sightings"], "{told}");
    assert_ne!(told["first"]["forest"], told["second"]["forest"]);
    let served = &told["by_the_first_while_the_second_was_trained"];
    assert!(served.as_u64() >= Some(1), "{told}");
    assert!(told["second"]["verdicts"].as_u64() >= Some(40), "{told}");
    // It learnt from five times as many. Judged on penguins that neither has learnt from.
    let right = |model: &str| told[model]["right"].as_f64().unwrap();
    assert!(right("first") > 0.8 && right("second") > 0.9, "{told}");
}
