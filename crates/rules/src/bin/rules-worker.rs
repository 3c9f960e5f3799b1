//! A worker, and the original's prompt, for the tests of this crate. Nodes start themselves, by
//! `cpe rules-worker` and `cpe rules batch`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(command), Some(file)) = (arguments.next(), arguments.next())
        && command == "batch"
    {
        // Returns only when it could not begin.
        return ExitCode::from(u8::from(cpe_rules::batch(file.as_ref()).is_err()));
    }
    ExitCode::from(cpe_rules::process::serve())
}
