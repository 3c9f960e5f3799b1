//! Any bytes are read as a snapshot without a crash, and one that can be read can be restored and
//! goes on.
#![no_main]

use std::time::Duration;

use cpe_rules::{AgentSnapshot, Engine, Limits, Snapshot};
use libfuzzer_sys::fuzz_target;

#[path = "seeds.rs"]
mod seeds;

/// Something of all that a snapshot can hold.
const RULES: &str = "(deftemplate t (slot a) (multislot b) (slot c (type FACT-ADDRESS SYMBOL)))
    (defclass C (is-a USER) (slot v) (slot w (storage shared)))
    (defglobal ?*g* = 1)
    (deffacts d (t (a 1) (b x y)) (t (a 2)) (p 7))
    (definstances i ([i] of C (v 3)))
    (defrule r (logical (t (a ?x))) (not (q ?x)) => (assert (p ?x)))
    (defrule s ?f <- (p ?x) (object (is-a C) (v ?v)) =>
      (assert (t (a (+ ?x 1)) (c ?f))) (bind ?*g* ?v) (make-instance of C (v ?x)))
    (defmodule M) (defrule M::m => (focus M))";

/// Far below what libFuzzer takes for a hang.
const LIMITS: Limits = Limits {
    wall: Duration::from_millis(500),
    memory_bytes: 32 << 20,
    ..Limits::AGENT
};

/// The program after none, one, two, ... firings.
fn snapshots() -> Vec<Vec<u8>> {
    let mut engine = Engine::sandboxed(LIMITS, 1);
    if engine.load(RULES).is_err() || engine.reset().is_err() {
        return Vec::new();
    }
    let steps = 0..6;
    let taken = steps.filter_map(|_| {
        let bytes = engine.snapshot().ok()?.to_bytes();
        let _ = engine.run(Some(1));
        Some(bytes)
    });
    taken.collect()
}

fuzz_target!(
    init: seeds::write(snapshots()),
    |bytes: &[u8]| {
        let _ = AgentSnapshot::from_bytes(bytes);
        if let Ok(snapshot) = Snapshot::from_bytes(bytes) {
            let mut engine = Engine::sandboxed(LIMITS, 1);
            if engine.load(RULES).is_ok() && engine.restore(&snapshot).is_ok() {
                let _ = engine.run(Some(20));
                let _ = engine.snapshot().map(|snapshot| snapshot.to_bytes());
            }
        }
    }
);
