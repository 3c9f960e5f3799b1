//! Any bytes are read as what a worker and its node say to each other, without a crash.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cpe_rules::process::fuzz_frames(bytes));
