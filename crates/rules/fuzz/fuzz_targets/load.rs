//! Any text is vetted and loaded without a crash of what vets it. CLIPS 6.40 itself has bugs that
//! text can reach: what is found in its own code is for the list in `tests/process.rs`.
#![no_main]

use cpe_rules::{Engine, Limits, VetLimits, vet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if vet("fuzz", text, &VetLimits::default()).is_ok() {
        let mut engine = Engine::sandboxed(Limits::AGENT, 1);
        let _ = engine.load(text);
        let _ = engine.reset();
        let _ = engine.run(Some(100));
    }
});
