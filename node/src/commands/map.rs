//! `cpe map`: a command for each line of standard input, run by whichever nodes allow it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use cpe::Value;
use cpe_sleigh::{Chunk, Done, Imap, Job, JobError, OnError, Standing, TaskSpace as _, imap};
use futures::Stream;
use indicatif::{ProgressBar, ProgressStyle};
use serde_bytes::ByteBuf;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use crate::cli::Common;
use crate::client::{Client, segment};
use crate::config::{parse_pair, parse_span};
use crate::exit::{About, Fault, Status};
use crate::map::function::{self, Function};
use crate::map::program::Ran;
use crate::map::{FILES_MAX, Offer, Sent, WORKSPACE, element, is_name};
use crate::output;
use crate::remote::Remote;

/// Lines read before they are asked for.
const LINES_AHEAD: usize = 1024;

/// Bytes of one line at most: more does not fit into the arguments of a program on most systems.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How often it is seen to that the nodes still know of the job.
const OFFER_EVERY: Duration = Duration::from_secs(5);

/// How long a file may take to get to the node.
const SEND_WITHIN: Duration = Duration::from_secs(600);

/// Arguments of `map`.
#[derive(Debug, Args)]
#[command(
    after_help = "In the arguments, {} stands for the line and {#} for its number, from 1; \
                        without {} the line becomes the last argument. No shell looks at it. A \
                        line's output is written as it was, in the order of the lines."
)]
pub(crate) struct MapArgs {
    /// Run so many at once in the whole mesh [default: as many as nodes have room for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Write what comes as it comes, not in the order of the lines
    #[arg(long)]
    as_completed: bool,
    /// Run a line again up to so many times if its command fails; one that is lost with its node is
    /// run again in any case
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Begin no more once a command has failed for good
    #[arg(long)]
    fail_fast: bool,
    /// Only on nodes that say this of themselves (again for more)
    #[arg(long, value_name = "K=V", value_parser = parse_pair)]
    require: Vec<(String, String)>,
    /// End a command after so long, and not only after the node's own limit
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    task_timeout: Option<Duration>,
    /// Put this file into the folder where the command runs (again for more)
    #[arg(long, value_name = "FILE")]
    send: Vec<PathBuf>,
    /// Write the line to the command's standard input instead
    #[arg(long)]
    stdin: bool,
    /// Lines end with a zero byte, as `find -print0` writes them
    #[arg(short = '0', long)]
    null: bool,
    /// Name of the job: run again with the same lines after this was killed, it finds what was done
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    name: Option<String>,
    /// Keep so many tasks per worker in the space or at work at most, 1 to 65536: few leave more to
    /// quick nodes, many keep all busy [default: 256 in all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    load_factor: Option<u32>,
    /// Call this CLIPS function for each line, which is JSON: a list of arguments, or the argument.
    /// Nodes call it in a process that can do nothing else
    #[arg(long, value_name = "NAME", requires = "rules")]
    #[arg(conflicts_with_all = ["command", "send", "stdin"])]
    function: Option<String>,
    /// The CLIPS program that defines the function
    #[arg(long, value_name = "FILE", requires = "function")]
    rules: Option<PathBuf>,
    /// A line is a text, and the function's argument
    #[arg(long, requires = "function")]
    text: bool,
    /// The command; what it needs must be on the nodes or be sent along
    #[arg(last = true, required_unless_present = "function")]
    command: Vec<std::ffi::OsString>,
}

fn job_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is no name of a job: 1 to 64 letters, digits, `-` and `_`"
    ))
}

/// Runs a command for each line.
///
/// # Errors
/// When no node may run it, or the mesh cannot be reached.
pub(crate) async fn run(args: MapArgs, common: Common) -> Result<Status, Fault> {
    let client = Client::of(&common);
    let offer = offer(&args)?;
    let nodes = willing(&client, &offer, common.timeout()).await?;
    let space = Remote(client.clone());
    for (file, path) in offer.files.iter().zip(&args.send) {
        send(&client, &offer.job, file, path).await?;
    }
    announce(&space, &offer).await?;
    let mut show = Show::new(&common, nodes);
    let ended = work(&space, &args, &common, &offer, &mut show).await;
    // Only now do nodes stop, and end what may still run.
    withdraw(&space, &offer).await;
    show.bar.finish_and_clear();
    let standing = ended?;
    show.end(standing)
}

/// The function that is asked for, if one is; its program is looked through first.
fn function(args: &MapArgs) -> Result<Option<Function>, Fault> {
    let Some((name, path)) = args.function.as_ref().zip(args.rules.as_ref()) else {
        return Ok(None);
    };
    let shown = path.display().to_string();
    let function = Function {
        name: name.clone(),
        source: function::read(path).about(format!("cannot read {shown}"))?,
        file: shown.clone(),
        text: args.text,
    };
    let checked = function.check();
    checked.map_err(|why| {
        Fault::failed(format!("{shown} cannot be used: {why}"))
            .next("`cpe rules check FILE` shows all faults of a program")
    })?;
    Ok(Some(function))
}

fn offer(args: &MapArgs) -> Result<Offer, Fault> {
    let function = function(args)?;
    let mut words = args.command.iter().map(|word| word.clone().into_vec());
    let program = words.next().unwrap_or_default();
    let program =
        String::from_utf8(program).map_err(|_| Fault::usage("the program's name is no UTF-8"))?;
    let mut words: Vec<Vec<u8>> = words.collect();
    let placed = words
        .iter()
        .any(|word| word.windows(2).any(|two| two == b"{}"));
    if !placed && !args.stdin {
        words.push(b"{}".to_vec());
    }
    if args.send.len() > FILES_MAX {
        return Err(Fault::usage(format!(
            "at most {FILES_MAX} files can be sent"
        )));
    }
    let mut files: Vec<Sent> = Vec::new();
    for path in &args.send {
        let file = sent(path)?;
        if files.iter().any(|other| other.name == file.name) {
            return Err(Fault::usage(format!("two files are named `{}`", file.name)));
        }
        files.push(file);
    }
    let nameless = || format!("m{:016x}", rand::random::<u64>());
    Ok(Offer {
        job: args.name.clone().unwrap_or_else(nameless),
        program,
        args: words.into_iter().map(ByteBuf::from).collect(),
        stdin: args.stdin,
        require: args.require.iter().cloned().collect(),
        within_ms: args
            .task_timeout
            .map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
        files,
        function,
    })
}

fn sent(path: &Path) -> Result<Sent, Fault> {
    let shown = path.display();
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Fault::usage(format!("{shown} has no name that can be sent")))?;
    let failed = format!("cannot read {shown}");
    let about = std::fs::metadata(path).about(&failed)?;
    if !about.is_file() {
        return Err(Fault::usage(format!(
            "{shown} is no file; pack a folder first"
        )));
    }
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(File::open(path).about(&failed)?)
        .about(&failed)?;
    Ok(Sent {
        name: name.to_owned(),
        hash: hasher.finalize().to_hex().to_string(),
        bytes: about.len(),
        executable: about.permissions().mode() & 0o111 != 0,
    })
}

/// The nodes that may run it; when there are none, why not.
async fn willing(client: &Client, offer: &Offer, within: Duration) -> Result<usize, Fault> {
    let peers = client.get("/v1/peers", within).await?;
    let (mut willing, mut alive, mut lacking) = (0, 0, BTreeMap::new());
    for peer in peers.as_array().into_iter().flatten() {
        if peer.get("state").and_then(Json::as_str) != Some("alive") {
            continue;
        }
        alive += 1;
        let capabilities = peer.get("capabilities").cloned().unwrap_or_default();
        let capabilities = serde_json::from_value(capabilities).unwrap_or_default();
        match offer.lacks(&capabilities) {
            None => willing += 1,
            Some(what) => *lacking.entry(what).or_insert(0) += 1,
        }
    }
    if willing > 0 {
        return Ok(willing);
    }
    let lacking: Vec<_> = lacking
        .iter()
        .map(|(what, nodes)| format!("{nodes} lack {what}"))
        .collect();
    let lacking = lacking.join(", ");
    let program = &offer.program;
    if let Some(function) = &offer.function {
        let name = &function.name;
        let why = format!("no node may call `{name}`: of {alive} nodes, {lacking}");
        return Err(Fault::unavailable(why).next("a node's setting commands.functions allows it"));
    }
    Err(Fault::unavailable(format!(
        "no node may run `{program}`: of {alive} nodes, {lacking}"
    ))
    .next(format!(
        "a node allows it when started with `--allow-command {program}`"
    )))
}

/// Puts a file where the nodes fetch it.
async fn send(client: &Client, job: &str, file: &Sent, path: &Path) -> Result<(), Fault> {
    let shown = path.display();
    let source = tokio::fs::File::open(path).await;
    let source = source.about(format!("cannot read {shown}"))?;
    let name = segment(&file.variable(job));
    let path = format!(
        "/v1/spaces/{}/values/{name}?timeout_ms={}",
        segment(WORKSPACE),
        SEND_WITHIN.as_millis()
    );
    client.upload(&path, source, SEND_WITHIN).await?;
    Ok(())
}

/// Lets the nodes know of the job, unless they do.
async fn announce(space: &Remote, offer: &Offer) -> Result<(), Fault> {
    use crate::remote::Space as _;
    let template = Offer::template(Some(&offer.job)).about("cannot offer the job")?;
    if space
        .rd(WORKSPACE, template, Duration::ZERO)
        .await?
        .is_some()
    {
        return Ok(());
    }
    let tuple = offer.to_tuple().map_err(Fault::usage)?;
    crate::remote::Space::out(space, WORKSPACE, tuple).await
}

/// Removes all that is left of the job. What cannot be removed now, nodes remove after a while.
async fn withdraw(space: &Remote, offer: &Offer) {
    while let Ok(template) = Offer::template(Some(&offer.job)) {
        match space.try_take(WORKSPACE, template).await {
            Ok(Some(_)) => {}
            _ => break,
        }
    }
    let tasks = format!("task:{}", offer.job);
    let files = offer.files.iter().map(|file| file.variable(&offer.job));
    for variable in files.chain([tasks]) {
        let _ = crate::remote::Space::delete(space, WORKSPACE, &variable).await;
    }
}

async fn work(
    space: &Remote,
    args: &MapArgs,
    common: &Common,
    offer: &Offer,
    show: &mut Show,
) -> Result<Standing, Fault> {
    let mut job = Job::new(WORKSPACE, &offer.job, &offer.job);
    job.tries = args.retries.saturating_add(1);
    job.is_failure = Some(Ran::is_failure);
    job.on_error = OnError::SetAside;
    job.stall = common.timeout();
    job.deadline = Duration::MAX;
    job.load_factor = args
        .load_factor
        .and_then(|factor| usize::try_from(factor).ok());
    if let Some(jobs) = args.jobs {
        (job.open_max, job.chunk) = (usize::from(jobs), Chunk::Of(1));
    }
    let mut map = imap(space, job, lines(args.null));
    if args.as_completed {
        map = map.unordered();
    }
    let worked = drive(space, args, offer, &mut map, show).await;
    map.clean().await;
    worked?;
    Ok(map.standing())
}

async fn drive<I: Stream<Item = Value> + Unpin>(
    space: &Remote,
    args: &MapArgs,
    offer: &Offer,
    map: &mut Imap<'_, Remote, I>,
    show: &mut Show,
) -> Result<(), Fault> {
    let stopper = map.stopper();
    let stopping = stopper.clone();
    let bar = show.bar.clone();
    let interrupted = Cell::new(false);
    let listening = async {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        interrupted.set(true);
        stopping.stop();
        let text = "stopping: what runs comes to its end; Ctrl-C again ends it";
        bar.suspend(|| output::warn(format_args!("{text}")));
        let _ = tokio::signal::ctrl_c().await;
    };
    let offering = async {
        loop {
            tokio::time::sleep(OFFER_EVERY).await;
            // A fault shows in the map itself, if it lasts.
            let _ = announce(space, offer).await;
        }
    };
    let working = async {
        while let Some(done) = map.next().await.map_err(fault)? {
            let failed = show.done(&done)?;
            if failed && args.fail_fast {
                stopper.stop();
            }
            show.standing(map.standing());
        }
        Ok(())
    };
    let worked = tokio::select! {
        worked = working => worked,
        () = listening => Ok(()),
        () = offering => Ok(()),
    };
    show.interrupted = interrupted.get();
    worked
}

fn fault(error: JobError) -> Fault {
    match error {
        JobError::Stalled { .. } => Fault::unavailable(error.to_string())
            .next("`cpe mesh peers` shows who is there; --timeout says how long to wait"),
        other => Fault::failed(other.to_string()),
    }
}

/// The lines of standard input, as elements, read by a thread of their own.
fn lines(null: bool) -> impl Stream<Item = Value> + Unpin {
    let (sender, mut receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let end = if null { 0 } else { b'\n' };
        let mut input = BufReader::new(std::io::stdin().lock());
        for number in 1.. {
            let mut line = Vec::new();
            match input.read_until(end, &mut line) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    output::warn(format_args!("warning: standard input: {error}"));
                    return;
                }
            }
            if line.last() == Some(&end) {
                line.pop();
            }
            if line.len() > LINE_BYTES_MAX {
                output::warn(format_args!(
                    "warning: line {number} has more than {LINE_BYTES_MAX} bytes and is left out"
                ));
                continue;
            }
            if sender.blocking_send(element(number, line)).is_err() {
                return;
            }
        }
    });
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// What a person sees of it.
struct Show {
    json: bool,
    bar: ProgressBar,
    nodes: usize,
    began: Instant,
    good: usize,
    failed: usize,
    interrupted: bool,
}

impl Show {
    #[expect(clippy::disallowed_methods, reason = "how long it took is real time")]
    fn new(common: &Common, nodes: usize) -> Self {
        let quiet = common.json || !std::io::stderr().is_terminal();
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}{msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !quiet {
            bar.set_message(" lines");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self {
            json: common.json,
            bar,
            nodes,
            began: Instant::now(),
            good: 0,
            failed: 0,
            interrupted: false,
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| output::warn(format_args!("{text}")));
    }

    fn standing(&self, standing: Standing) {
        self.bar.set_length(standing.offered as u64);
        self.bar.set_position((self.good + self.failed) as u64);
        let more = if standing.complete { "" } else { "+" };
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let done = (self.good + self.failed) as f64;
        let rate = done / self.began.elapsed().as_secs_f64().max(1e-3);
        let left = (standing.offered as f64 - done) / rate.max(1e-3);
        let left = humantime::format_duration(Duration::from_secs(left.ceil() as u64));
        let running = standing.running;
        self.bar.set_message(format!(
            "{more} lines, {running} running{failed}, {rate:.1}/s, {left} left"
        ));
    }

    /// Writes what came of a line; true if it failed.
    fn done(&mut self, done: &Done) -> Result<bool, Fault> {
        let ran = match &done.outcome {
            Ok(value) => Ran::of(value).unwrap_or_else(|| Ran {
                why: Some("what came of it cannot be read".to_owned()),
                ..Ran::default()
            }),
            Err(why) => Ran {
                why: Some(why.clone()),
                ..Ran::default()
            },
        };
        let failed = ran.code != Some(0);
        if failed {
            self.failed += 1;
        } else {
            self.good += 1;
        }
        let node = done.node.rsplit_once('.').map_or("", |(node, _)| node);
        if self.json {
            output::json(&record(done, &ran, node))?;
            return Ok(failed);
        }
        self.bar.suspend(|| {
            output::raw(&ran.out)?;
            // Nothing can be done about a failure here.
            let _ = std::io::stderr().lock().write_all(&ran.err);
            Ok::<(), Fault>(())
        })?;
        if failed {
            let what = match (&ran.why, ran.code) {
                (Some(why), _) => why.clone(),
                (None, Some(code)) => format!("exit status {code}"),
                (None, None) => "it has no exit status".to_owned(),
            };
            let on = match node {
                "" => String::new(),
                node => format!(" on {node}"),
            };
            let again = match done.tries {
                0 | 1 => String::new(),
                tries => format!(", the last of {tries} tries"),
            };
            self.say(&format!(
                "line {} failed{on}: {what}{again}",
                done.index + 1
            ));
        }
        Ok(failed)
    }

    fn end(&self, standing: Standing) -> Result<Status, Fault> {
        let ran = self.good + self.failed;
        let left = standing.offered.saturating_sub(ran);
        if self.json && (self.failed > 0 || self.interrupted) {
            output::json(&json!({
                "ran": ran, "failed": self.failed, "not_begun": standing.cancelled,
                "ended": left.saturating_sub(standing.cancelled),
                "interrupted": self.interrupted,
            }))?;
        }
        if self.interrupted || left > 0 {
            let ended = left.saturating_sub(standing.cancelled);
            let ended = match ended {
                0 => String::new(),
                many => format!(", {many} were ended while they ran"),
            };
            return Err(Fault::failed(format!(
                "{ran} lines ran, {} of them failed; {} that were read were not begun{ended}",
                self.failed, standing.cancelled
            )));
        }
        if self.failed > 0 {
            let took = self.began.elapsed();
            return Err(Fault::failed(format!(
                "{} of {ran} lines failed, in {:.1} s on {} nodes",
                self.failed,
                took.as_secs_f64(),
                self.nodes
            )));
        }
        Ok(Status::Done)
    }
}

/// What came of a line, as data.
fn record(done: &Done, ran: &Ran, node: &str) -> Json {
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            use base64::Engine as _;
            json!({"bytes": base64::engine::general_purpose::STANDARD.encode(bytes)})
        }
    };
    let mut record = json!({
        "line": done.index + 1,
        "exit": ran.code,
        "out": bytes(&ran.out),
        "err": bytes(&ran.err),
        "error": ran.why,
        "node": node,
        "seconds": ran.took.as_secs_f64(),
        "tries": done.tries,
    });
    if let (Some(value), Some(record)) = (&ran.value, record.as_object_mut()) {
        record.insert("value".to_owned(), cpe_tuple::json::value_to_json(value));
    }
    record
}
