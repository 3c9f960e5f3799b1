//! Asking and telling an actor of another process, beside kameo's remote actors, a bare libp2p
//! stream (Noise, yamux) and a bare TCP connection.
//!
//! A server process has an actor, or an echo; a client process sends to it. Both run on one thread
//! and, where Linux allows it, on one core: waking an idle virtual core takes longer than any of
//! what is measured here.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use crate::Stopwatch;

mod kameo;
mod ours;
mod stream;
mod tcp;

/// Bytes of the head of a framed message: its length, and whether it is to be answered.
const HEAD: usize = 5;

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteSide {
    /// Named actors of the library `cpe`.
    Ours,
    /// A libp2p stream over Noise and yamux.
    Stream,
    /// A TCP connection.
    Tcp,
    /// kameo's remote actors over libp2p.
    Kameo,
}

impl RemoteSide {
    /// All sides, in the order in which they take turns.
    pub const ALL: [Self; 4] = [Self::Ours, Self::Stream, Self::Tcp, Self::Kameo];

    /// Its name on command lines and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "cpe",
            Self::Stream => "stream",
            Self::Tcp => "tcp",
            Self::Kameo => "kameo",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each message is answered with what it holds.
    Ask,
    /// Each is told, and waited for until it is in the mailbox, where there is one.
    TellEach,
    /// They are told one after the other, as fast as the side's means for that take them; at the
    /// end the server is asked how many came.
    Tell,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Asked or told.
    pub way: Way,
    /// Bytes of a message.
    pub bytes: usize,
    /// Messages under way at the same time.
    pub in_flight: usize,
    /// Messages in all.
    pub count: u64,
}

/// What came of one.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Nanoseconds of a message: with one in flight the median, else the mean.
    pub wall_ns: f64,
    /// Nanoseconds of processor time of a message in the client.
    pub cpu_ns: f64,
    /// Messages that arrived.
    pub arrived: u64,
}

/// Says where a server is reached; the client is started with it.
fn ready(address: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "ready {address}").expect("the parent reads");
    out.flush().expect("the parent reads");
}

/// Waits until the parent closes the standard input of this process.
async fn end() {
    let wait = || std::io::stdin().lock().lines().count();
    tokio::task::spawn_blocking(wait).await.expect("it ends");
}

/// Serves until standard input ends, and says where on standard output: `ready ADDRESS`.
pub fn serve(side: RemoteSide) {
    on_one_thread(async move {
        match side {
            RemoteSide::Ours => ours::serve().await,
            RemoteSide::Stream => stream::serve().await,
            RemoteSide::Tcp => tcp::serve().await,
            RemoteSide::Kameo => kameo::serve().await,
        }
    });
}

/// Connects to a server and does this.
#[must_use]
pub fn drive(side: RemoteSide, address: &str, case: Case) -> Outcome {
    on_one_thread(async move {
        match side {
            RemoteSide::Ours => ours::drive(address, case).await,
            RemoteSide::Stream => stream::drive(address, case).await,
            RemoteSide::Tcp => tcp::drive(address, case).await,
            RemoteSide::Kameo => kameo::drive(address, case).await,
        }
    })
}

fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    pin_to_one_core();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime starts");
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

#[cfg(target_os = "linux")]
fn pin_to_one_core() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    // Of those that this process may use, the last: interrupts tend to be at the first.
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let last = (0..CpuSet::MAX_CPU)
        .rev()
        .find(|core| allowed.is_set(*core));
    if let Some(core) = last {
        let mut one = CpuSet::new();
        one.set(core);
        // Where it is not allowed the figures are those of two cores.
        let _ = sched_setaffinity(None, &one);
    }
}

#[cfg(not(target_os = "linux"))]
fn pin_to_one_core() {}

/// Reads clocks around messages; of single ones each.
struct Timer {
    watch: Stopwatch,
    singles: Option<(Instant, Vec<f64>)>,
    count: u64,
}

impl Timer {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn start(case: Case) -> Self {
        let single = case.in_flight == 1 && case.way == Way::Ask;
        Self {
            singles: single.then(|| (Instant::now(), Vec::with_capacity(case.count as usize))),
            watch: Stopwatch::start(case.count),
            count: case.count,
        }
    }

    /// A message was answered.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn lap(&mut self) {
        if let Some((last, singles)) = &mut self.singles {
            let now = Instant::now();
            singles.push(now.duration_since(*last).as_secs_f64() * 1e9);
            *last = now;
        }
    }

    fn stop(self, arrived: u64) -> Outcome {
        let sample = self.watch.stop();
        let median = self.singles.map(|(_, mut singles)| {
            singles.sort_by(f64::total_cmp);
            singles.get(singles.len() / 2).copied().unwrap_or_default()
        });
        Outcome {
            wall_ns: median
                .unwrap_or_else(|| sample.value * self.count as f64 / arrived.max(1) as f64),
            cpu_ns: sample.cpu_ns,
            arrived,
        }
    }
}

/// The head of a framed message.
fn head(bytes: usize, answered: bool) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, u8::from(answered)]
}

/// Messages cut out of what comes in, of which some are to be answered.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    told: u64,
}

impl Frames {
    /// Takes in what was read and writes the answers: what was asked, or for an empty message how
    /// many were told since the last.
    fn take(&mut self, read: &[u8], answers: &mut Vec<u8>) {
        self.bytes.extend_from_slice(read);
        let mut rest = self.bytes.as_slice();
        while let Some(([a, b, c, d, answered], after)) = rest.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some((message, after)) = after.split_at_checked(length) else {
                break;
            };
            if *answered == 0 {
                self.told += 1;
            } else if message.is_empty() {
                answers.extend(head(8, true));
                answers.extend(self.told.to_be_bytes());
                self.told = 0;
            } else {
                answers.extend(head(length, true));
                answers.extend(message);
            }
            rest = after;
        }
        let left = rest.len();
        let done = self.bytes.len() - left;
        self.bytes.drain(..done);
    }
}

/// Sends to an echo over a connection of bytes.
async fn over_bytes<S>(connection: &mut S, case: Case) -> Outcome
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let Case {
        way,
        bytes,
        in_flight,
        count,
    } = case;
    let asked = way == Way::Ask;
    let mut message = head(bytes, asked).to_vec();
    message.resize(HEAD + bytes, 7);
    let several = message.repeat(in_flight);
    let mut buffer = vec![0; 64 * 1024];
    let mut timer = Timer::start(case);
    if !asked {
        let mut left = count as usize;
        while left > 0 {
            let some = left.min(in_flight);
            let some_bytes = several.get(..some * message.len()).unwrap_or_default();
            connection.write_all(some_bytes).await.expect("it is open");
            connection.flush().await.expect("it is open");
            left -= some;
        }
        connection
            .write_all(&head(0, true))
            .await
            .expect("it is open");
        connection.flush().await.expect("it is open");
        let mut answer = [0; HEAD + 8];
        connection
            .read_exact(&mut answer)
            .await
            .expect("it answers");
        let (_, told) = answer.split_at(HEAD);
        let told = told.try_into().map(u64::from_be_bytes).unwrap_or_default();
        return timer.stop(told);
    }
    let total = count as usize * message.len();
    let mut sent = in_flight.min(count as usize) * message.len();
    let mut received = 0;
    let first = several.get(..sent).unwrap_or_default();
    connection.write_all(first).await.expect("it is open");
    connection.flush().await.expect("it is open");
    while received < total {
        let read = connection.read(&mut buffer).await.expect("it is open");
        assert!(read > 0, "the echo has hung up");
        let before = received / message.len();
        received += read;
        let answered = received / message.len() - before;
        if in_flight == 1 && answered == 1 {
            timer.lap();
        }
        // As many more as were answered.
        let more = (answered * message.len()).min(total - sent);
        if more > 0 {
            let more_bytes = several.get(..more).unwrap_or_default();
            connection.write_all(more_bytes).await.expect("it is open");
            connection.flush().await.expect("it is open");
            sent += more;
        }
    }
    timer.stop(count)
}

/// Answers what comes in over a connection of bytes until it is closed.
async fn echo<S>(mut connection: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut frames = Frames::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut answers = Vec::new();
    while let Ok(read @ 1..) = connection.read(&mut buffer).await {
        answers.clear();
        frames.take(buffer.get(..read).unwrap_or_default(), &mut answers);
        // All that one read brought is answered with one write, as our own links do.
        if !answers.is_empty() {
            let written = connection.write_all(&answers).await;
            if written.is_err() || connection.flush().await.is_err() {
                return;
            }
        }
    }
}

/// Runs an operation so many times, so many at a time, on this task; how many succeeded.
async fn many<F>(case: Case, timer: &mut Timer, operation: impl Fn() -> F) -> u64
where
    F: Future<Output = bool>,
{
    use futures::StreamExt as _;

    let operations = futures::stream::iter(0..case.count).map(|_| operation());
    let mut operations = std::pin::pin!(operations.buffer_unordered(case.in_flight));
    let mut done = 0;
    while let Some(succeeded) = operations.next().await {
        done += u64::from(succeeded);
        timer.lap();
    }
    done
}
