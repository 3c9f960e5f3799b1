//! Any text is vetted and loaded without a panic of what vets and loads it. CLIPS 6.40 itself has
//! bugs that text can reach: `load.options` has the fuzzer note those and go on.
#![no_main]

use std::time::Duration;

use cpe_rules::{Engine, Limits, VetLimits, vet};
use libfuzzer_sys::fuzz_target;

#[path = "seeds.rs"]
mod seeds;

/// Far below what libFuzzer takes for a hang.
const LIMITS: Limits = Limits {
    wall: Duration::from_millis(500),
    memory_bytes: 32 << 20,
    ..Limits::AGENT
};

const SEEDS: [&str; 8] = [
    include_str!("../../../../examples/rules/buyer.clp"),
    include_str!("../../../../examples/rules/seller.clp"),
    include_str!("../../../../examples/rules/monitor.clp"),
    include_str!("../../../../examples/rules/planner.clp"),
    include_str!("../../../../examples/rules/diagnosis.clp"),
    include_str!("../../tests/batch/objects.clp"),
    "(defclass C (is-a USER) (slot v)) (defmessage-handler C h () (send ?self h))
     (definstances d ([a] of C (v 1))) (defgeneric m) (defmethod m ((?x INTEGER)) (+ ?x 1))
     (defglobal ?*g* = 3) (deffunction f (?x $?y) (if (> ?x 1) then (m ?x) else ?*g*))
     (defrule r (object (is-a C) (v ?v)) (not (p ?v)) (exists (q) (test (< ?v 9))) =>
       (assert (p (f ?v))) (modify-instance [a] (v 2)))",
    // What is cut and measured in a way of its own.
    "; x\r(defrule => \"=>\" (or (a) (b)) (p ?x&~b|=(+ 1 ?x) $? $?y&:(f ?x)) (t (s ? <= [i])) => )",
];

fuzz_target!(
    init: seeds::write(SEEDS.map(|text| text.as_bytes().to_vec())),
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if vet("fuzz", text, &VetLimits::default()).is_ok() {
            let mut engine = Engine::sandboxed(LIMITS, 1);
            let _ = engine.load(text);
            let _ = engine.reset();
            let _ = engine.run(Some(100));
        }
    }
);
