//! The worker: what runs in the other process.

use std::io::{Read, Write};
use std::time::Duration;

use super::confine;
use super::protocol::{self, Begin, Failure, Request, Response};
use crate::agent::{AgentOptions, AgentSnapshot, RuleAgent};
use crate::raw::{Fatal, on_fatal, system};
use crate::worker::STACK_BYTES;

/// How the process ends when the system gives it no more memory.
pub(super) const NO_MEMORY: i32 = 77;

/// How it ends when CLIPS finds itself in a state that can not be.
pub(super) const BROKEN: i32 = 78;

/// Address space beyond what an agent's engine may hold: values are copied on their way in and
/// out, and a snapshot has all of them.
const COPIES: usize = 8;

/// Processor time beyond the wall time of a delivery, for what can not be interrupted at once.
const CPU_MARGIN: Duration = Duration::from_secs(2);

/// Be a worker: confine this process, then answer what comes from standard input on standard
/// output, until there is no more. For a program's hidden command, called first thing in `main`,
/// before any thread was started or file opened.
///
/// Returns the code to exit with.
#[must_use]
pub fn serve() -> u8 {
    let begun = confine::begin();
    // The deep stack must be there before seccomp, which allows no new threads.
    let thread = std::thread::Builder::new()
        .name("rules".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
            work(begun, &mut input, &mut output)
        });
    let ended = thread.map(std::thread::JoinHandle::join);
    u8::from(!matches!(ended, Ok(Ok(Some(())))))
}

/// `None` when the other side does not keep to the protocol.
fn work(begun: confine::Begun, input: &mut impl Read, output: &mut impl Write) -> Option<()> {
    on_fatal(Some(Box::new(|why| {
        system::exit_now(match why {
            Fatal::Memory => NO_MEMORY,
            Fatal::Internal => BROKEN,
        })
    })));
    // The bytes of the rules are read, but not looked at before the process is confined.
    let Request::Begin(begin) = protocol::read(input).ok()?? else {
        return None;
    };
    let limits = begin.limits;
    let memory = limits.memory_bytes.saturating_mul(COPIES) as u64 + 2 * STACK_BYTES as u64;
    let confinement = confine::finish(begun, memory);
    let limit_cpu = || {
        let seconds = system::cpu_seconds() + (limits.wall + CPU_MARGIN).as_secs() + 1;
        // Where there is no such limit, whoever waits for the answer ends this process.
        let _ = system::limit_cpu(seconds);
    };
    limit_cpu();
    let (mut agent, lost) = match make(begin) {
        Ok(made) => made,
        Err(reason) => {
            let _ = protocol::write(output, &Response::Refused(reason));
            return Some(());
        }
    };
    protocol::write(output, &Response::Ready(confinement, lost)).ok()?;
    answer(&mut agent, input, output, limit_cpu)
}

/// Do what is asked until there is no more; `before` each.
pub(super) fn answer(
    agent: &mut RuleAgent,
    input: &mut impl Read,
    output: &mut impl Write,
    mut before: impl FnMut(),
) -> Option<()> {
    while let Some(request) = protocol::read(input).ok()? {
        before();
        let response = match request {
            Request::Begin(_) => return None,
            Request::Deliver(delivery, now_ms) => {
                let done = agent.deliver(delivery, now_ms).map_err(Failure::from);
                Response::Done(done, agent.take_output())
            }
            Request::Replay(delivery, now_ms) => {
                let done = agent.deliver(delivery, now_ms);
                agent.take_output();
                Response::Done(
                    done.map(|_| Vec::new()).map_err(Failure::from),
                    String::new(),
                )
            }
            Request::Inspect(command) => {
                let inspected = agent.inspect(&command);
                Response::Inspected(inspected.map_err(|error| error.to_string()))
            }
            Request::Call(function, arguments, now_ms) => {
                let called = agent.call(&function, &arguments, now_ms);
                Response::Called(called.map_err(Failure::from), agent.take_output())
            }
            Request::Trace => Response::Trace(agent.trace()),
            Request::Snapshot => match agent.snapshot() {
                Ok(snapshot) => Response::Snapshot(snapshot.to_bytes()),
                Err(error) => Response::NoSnapshot(error.to_string()),
            },
        };
        protocol::write(output, &response).ok()?;
    }
    Some(())
}

fn make(begin: Begin) -> Result<(RuleAgent, Vec<String>), String> {
    let options = AgentOptions {
        limits: begin.limits,
        seed: begin.seed,
        node: begin.node,
        file: begin.file,
    };
    let told = |error: &dyn std::fmt::Display| error.to_string();
    match begin.snapshot {
        None => {
            let agent = RuleAgent::new(&begin.name, &begin.source, options);
            Ok((agent.map_err(|error| told(&error))?, Vec::new()))
        }
        Some(bytes) => {
            let snapshot = AgentSnapshot::from_bytes(&bytes).map_err(|error| told(&error))?;
            let restored = RuleAgent::restore(&begin.name, &begin.source, options, &snapshot);
            let (agent, lost) = restored.map_err(|error| told(&error))?;
            Ok((agent, lost.iter().map(ToString::to_string).collect()))
        }
    }
}
