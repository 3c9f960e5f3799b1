//! Any bytes are read as what a worker and its node say to each other, and a worker answers
//! whatever it is asked, without a crash.
#![no_main]

use cpe_rules::process::fuzz;
use libfuzzer_sys::fuzz_target;

#[path = "seeds.rs"]
mod seeds;

fuzz_target!(
    init: seeds::write(fuzz::conversations()),
    |bytes: &[u8]| fuzz::converse(bytes)
);
