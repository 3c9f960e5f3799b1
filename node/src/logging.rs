//! The log: structured events on standard error.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::{LogConfig, LogFormat};
use crate::exit::Fault;

/// Starts the log of a node, as configured.
///
/// # Errors
/// When the filter cannot be read.
pub(crate) fn start(config: &LogConfig) -> Result<(), Fault> {
    install(&config.filter, config.format == LogFormat::Json)
}

/// Starts the log of any other command: warnings, unless `--log` or `CPE_LOG` says otherwise.
///
/// # Errors
/// When the filter cannot be read.
pub(crate) fn start_for_command(flag: Option<&str>) -> Result<(), Fault> {
    let env = std::env::var("CPE_LOG").ok();
    install(flag.or(env.as_deref()).unwrap_or("warn"), false)
}

fn install(filter: &str, json: bool) -> Result<(), Fault> {
    let filter = EnvFilter::try_new(quiet(filter))
        .map_err(|error| Fault::usage(format!("`{filter}` is no log filter: {error}")))?;
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(io::stderr()))
        .with_ansi(ansi)
        .with_timer(SystemTime);
    // A second start can only come from a test in this process; the first one stays.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    Ok(())
}

/// Writes each event as one line, also where a text in it came from somebody who would like another
/// one to be read.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    /// One event, with the end of its line.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = match event {
            [line @ .., b'\n'] => (line, &b"\n"[..]),
            line => (line, &b""[..]),
        };
        if line.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            let mut whole = Vec::with_capacity(event.len() + 16);
            for byte in line {
                match byte {
                    b'\n' => whole.extend(b"\\n"),
                    b'\r' => whole.extend(b"\\r"),
                    byte => whole.push(*byte),
                }
            }
            whole.extend(end);
            self.0.write_all(&whole)?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The filter without a warning of libp2p's that means nothing to people: each node that is alone,
/// as every founder is at first, is told that Kademlia has nobody to ask. Who names that part of
/// the program gets what was asked for.
fn quiet(filter: &str) -> String {
    if filter.contains("libp2p_kad") {
        return filter.to_owned();
    }
    // What comes first counts least, but a longer name counts more than a shorter one.
    format!("libp2p_kad::behaviour=off,{filter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_lines_in_it_is_one_line_of_the_log() {
        let mut written = Vec::new();
        let event = b"x\n2026 ERROR cpe::driver: forged\r\n";
        OneLine(&mut written).write_all(event).unwrap();
        assert_eq!(written, b"x\\n2026 ERROR cpe::driver: forged\\r\n");
    }
}
