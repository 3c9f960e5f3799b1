//! What fuzzing begins with, made by the code that reads it: so it never falls behind.

use std::path::Path;

/// Writes the seeds to the folder that `cargo xtask fuzz` names.
pub fn write(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os("CPE_FUZZ_SEEDS") else {
        return;
    };
    for (number, seed) in seeds.into_iter().enumerate() {
        let path = Path::new(&folder).join(format!("seed-{number}"));
        // Without them it begins with nothing, and takes longer.
        let _ = std::fs::write(path, seed);
    }
}
