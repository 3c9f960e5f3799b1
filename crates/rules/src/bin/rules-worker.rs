//! A worker for the tests of this crate. Nodes start themselves, by `cpe rules-worker`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cpe_rules::process::serve())
}
