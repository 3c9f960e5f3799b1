//! Any bytes are read as a snapshot without a crash, and one that can be read can be restored.
#![no_main]

use cpe_rules::{AgentSnapshot, Engine, Limits, Snapshot};
use libfuzzer_sys::fuzz_target;

const RULES: &str = "(deftemplate t (slot a) (multislot b)) (defclass C (is-a USER) (slot v))
    (defrule r (logical (t (a ?x))) => (assert (p ?x)))";

fuzz_target!(|bytes: &[u8]| {
    let _ = AgentSnapshot::from_bytes(bytes);
    if let Ok(snapshot) = Snapshot::from_bytes(bytes) {
        let mut engine = Engine::sandboxed(Limits::AGENT, 1);
        if engine.load(RULES).is_ok() && engine.restore(&snapshot).is_ok() {
            let _ = engine.run(Some(100));
        }
    }
});
