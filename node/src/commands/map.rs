//! `cpe map`: a command for each line of standard input, run by whichever nodes allow it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cpe::Value;
use cpe_sleigh::{Chunk, Imap, Job, JobError, OnError, Standing, imap};
use futures::Stream;
use futures::future::Either;
use serde_bytes::ByteBuf;
use serde_json::{Value as Json, json};

use crate::cli::Common;
use crate::client::{Client, segment};
use crate::config::{parse_pair, parse_span};
use crate::exit::{About, Fault, Status};
use crate::map::function::{self, Function};
use crate::map::program::Ran;
use crate::map::sign::Sign;
use crate::map::{FILES_MAX, Offer, SEND_WITHIN, Sent, WORKSPACE, is_name};
use crate::output;
use crate::remote::Remote;

use self::claim::{Claim, cancel, is_signed};
use self::lines::lines;
use self::show::Show;
use self::signals::{Asked, Signals};

mod claim;
mod lines;
mod show;
mod signals;

/// Bytes of results of a job with a name that are found when it is run again after a kill.
const KEEP_BYTES: usize = 64 << 20;

/// What is done about jobs there are.
#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List the jobs of the mesh
    Jobs,
    /// End a job, whoever asked for it, and what runs for it
    Cancel {
        /// Its name
        #[arg(value_parser = job_name)]
        name: String,
    },
}

/// Arguments of `map`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "In the arguments, {} stands for the line and {#} for its number, from 1; \
                        without {} the line becomes the last argument. No shell looks at it. A \
                        line's output is written as it was, in the order of the lines."
)]
pub(crate) struct MapArgs {
    #[command(subcommand)]
    jobs_command: Option<JobsCommand>,
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
    #[arg(long, value_name = "DURATION", value_parser = task_span)]
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
    /// Name of the job: run again with the same lines after this was killed, it finds what was
    /// done, up to 64 MiB of results
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

/// A time that a node can keep to.
fn task_span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text)?;
    if span < Duration::from_millis(1) {
        return Err(format!("`{text}` is no time for a command: at least 1ms"));
    }
    Ok(span)
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
    match &args.jobs_command {
        None => {}
        Some(JobsCommand::Jobs) => return list(client, &common).await,
        Some(JobsCommand::Cancel { name }) => {
            cancel(&Remote(client), name).await?;
            return Ok(Status::Done);
        }
    }
    let offer = offer(&args)?;
    let nodes = willing(&client, &offer, common.timeout()).await?;
    let signals = Signals::listen()?;
    let space = Remote(client.clone());
    let claim = tokio::select! {
        claim = Claim::new(&space, &offer, args.name.is_some()) => claim?,
        asked = signals.asked(Asked::Stop) => return Err(before(asked)),
    };
    let mut show = Show::new(&common, nodes);
    let bar = show.bar();
    let say = |text: &str| bar.suspend(|| output::warn(format_args!("{text}")));
    let working = async {
        // First, so that nodes know what to remove if this should be killed while it sends.
        claim.announce().await?;
        tokio::select! {
            sent = send_all(&client, &offer, &args.send) => sent?,
            asked = signals.asked(Asked::Stop) => return Err(before(asked)),
        }
        work(&space, &args, &common, &offer, &signals, &mut show).await
    };
    let ended = {
        let (working, holding) = (std::pin::pin!(working), std::pin::pin!(claim.hold(say)));
        match futures::future::select(working, holding).await {
            Either::Left((ended, holding)) => {
                // Only now do nodes stop, and end what may still run.
                claim.end(holding).await;
                ended
            }
            Either::Right((lost, _)) => Err(lost.unwrap_or_else(|| Fault::failed("it was ended"))),
        }
    };
    bar.finish_and_clear();
    show.end(ended?)
}

/// It was ended before any line was offered.
fn before(asked: Asked) -> Fault {
    let what = "it was ended before any line ran";
    match asked {
        Asked::Terminate => Fault::terminated(what),
        _ => Fault::failed(what),
    }
}

/// Lists the jobs of the mesh.
async fn list(client: Client, common: &Common) -> Result<Status, Fault> {
    let path = format!("/v1/spaces/{}", segment(WORKSPACE));
    let variables = client.get(&path, common.timeout()).await?;
    let names = variables.as_array().into_iter().flatten();
    let names = names.filter_map(|variable| Some(variable.get("name")?.as_str()?.to_owned()));
    let names: Vec<_> = names.collect();
    let space = Remote(client);
    let mut jobs = Vec::new();
    for job in names.iter().filter_map(|name| Sign::job(name)) {
        let template = Offer::template(Some(job)).about("cannot look for jobs")?;
        let found = space.look(WORKSPACE, &template).await?;
        let offer = found.as_ref().and_then(Offer::of);
        // Whoever asked may have been killed before it said what it wanted.
        if offer.is_none() && !is_signed(&space, job).await? {
            continue;
        }
        let tasks = offer
            .as_ref()
            .map(|offer| format!("task:{}", offer.tasks()));
        let of_it = |variable: &&Json| {
            tasks.is_some() && variable.get("name").and_then(Json::as_str) == tasks.as_deref()
        };
        let mut all = variables.as_array().into_iter().flatten();
        let waiting = all
            .find(of_it)
            .and_then(|tasks| tasks.get("tuples")?.as_u64());
        jobs.push(json!({
            "name": job, "command": offer.as_ref().map(Offer::shown),
            "waiting": waiting.unwrap_or(0),
        }));
    }
    if common.json {
        output::json(&json!(jobs))?;
        return Ok(Status::Done);
    }
    let rows = output::rows(&json!(jobs), &["name", "waiting", "command"]);
    output::table(&["NAME", "TASKS WAITING", "COMMAND"], rows, "no jobs")?;
    Ok(Status::Done)
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

/// Puts the files of a job where the nodes fetch them.
async fn send_all(client: &Client, offer: &Offer, paths: &[PathBuf]) -> Result<(), Fault> {
    for (file, path) in offer.files.iter().zip(paths) {
        send(client, &offer.job, file, path).await?;
    }
    Ok(())
}

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

async fn work(
    space: &Remote,
    args: &MapArgs,
    common: &Common,
    offer: &Offer,
    signals: &Signals,
    show: &mut Show,
) -> Result<Standing, Fault> {
    let mut job = Job::new(WORKSPACE, offer.tasks(), offer.tasks());
    job.tries = args.retries.saturating_add(1);
    if args.name.is_some() {
        job.keep_bytes = KEEP_BYTES;
    }
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
    let (lines, read) = lines(args.null);
    show.reads(read);
    let mut map = imap(space, job, lines);
    if args.as_completed {
        map = map.unordered();
    }
    let worked = drive(args, &mut map, signals, show).await;
    map.clean().await;
    worked?;
    if !show.is_unread() {
        for done in map.rest() {
            show.done(&done)?;
        }
    }
    Ok(map.standing())
}

async fn drive<I: Stream<Item = Value> + Unpin>(
    args: &MapArgs,
    map: &mut Imap<'_, Remote, I>,
    signals: &Signals,
    show: &mut Show,
) -> Result<(), Fault> {
    let stopper = map.stopper();
    let stopping = stopper.clone();
    let bar = show.bar();
    let heard = Cell::new(Asked::Nothing);
    let listening = async {
        heard.set(signals.asked(Asked::Stop).await);
        stopping.stop();
        if heard.get() == Asked::Stop {
            let text = "stopping: what runs comes to its end; Ctrl-C again ends it";
            bar.suspend(|| output::warn(format_args!("{text}")));
            heard.set(signals.asked(Asked::End).await);
        }
    };
    let working = async {
        while let Some(done) = map.next().await.map_err(fault)? {
            let failed = show.done(&done)?;
            if show.is_unread() {
                break;
            }
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
    };
    show.asked(heard.get());
    worked
}

fn fault(error: JobError) -> Fault {
    match error {
        JobError::Stalled { .. } => Fault::unavailable(error.to_string())
            .next("`cpe mesh peers` shows who is there; --timeout says how long to wait"),
        other => Fault::failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_a_millisecond_at_least() {
        for short in ["0s", "500us", "999us"] {
            task_span(short).unwrap_err();
        }
        assert_eq!(task_span("1ms"), Ok(Duration::from_millis(1)));
    }
}
