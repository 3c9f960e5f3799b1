//! `cpe space`: the tuple space of a mesh, through one of its nodes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use cpe_tuple::json::{
    parse_cli_value, parse_template, parse_tuple, template_to_json, tuple_to_json, value_to_json,
};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::cli::Common;
use crate::client::{Client, segment};
use crate::config::parse_span;
use crate::exit::{About, Fault, Status};
use crate::output;

/// Bytes a second at which a file of known length is stored, at least.
const SLOWEST: u64 = 1 << 20;

/// How long storing from a pipe may take.
const PIPE_WITHIN: Duration = Duration::from_secs(24 * 3_600);

/// Commands of the tuple space.
#[derive(Debug, Subcommand)]
pub(crate) enum SpaceCommand {
    /// Add a value to a variable
    Store(StoreArgs),
    /// Add a tuple
    Out(OutArgs),
    /// Wait for a value of a variable and leave it there
    Find(NameArgs),
    /// Read a value of a variable if there is one (else exit status 3)
    FindTry(NameArgs),
    /// Wait for a value of a variable and take it
    Fetch(FetchArgs),
    /// Take a value of a variable if there is one (else exit status 3)
    FetchTry(FetchArgs),
    /// Wait for a tuple that matches a template and leave it there
    Rd(TemplateArgs),
    /// Read a tuple that matches a template if there is one (else exit status 3)
    Rdp(TemplateArgs),
    /// Wait for a tuple that matches a template and take it
    In(InArgs),
    /// Take a tuple that matches a template if there is one (else exit status 3)
    Inp(InArgs),
    /// Renew, commit or return what was taken with --lease
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Tell what became of an operation that ended as unknown
    Status {
        /// The operation, as the message named it
        #[arg(value_name = "OPERATION")]
        operation: cpe::OpHandle,
    },
    /// Set the mode of a variable
    Declare(DeclareArgs),
    /// List the workspaces, or the variables of one
    List {
        /// Workspace
        #[arg(value_name = "WS", value_parser = workspace)]
        workspace: Option<String>,
    },
    /// Delete a variable with its tuples, or a whole workspace
    Delete {
        /// Workspace
        #[arg(value_name = "WS", value_parser = workspace)]
        workspace: String,
        /// Variable; all of them when left out
        #[arg(allow_negative_numbers = true)]
        name: Option<String>,
    },
    /// Print tuples as they come, beginning with those there are, until interrupted
    Watch {
        /// Workspace
        #[arg(value_name = "WS", value_parser = workspace)]
        workspace: String,
        /// Which tuples [default: those of a variable, `[{"?":"any"},{"?":"any"}]`]
        template: Option<String>,
    },
}

/// Arguments of `store`.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Workspace
    #[arg(value_name = "WS", value_parser = workspace)]
    workspace: String,
    /// Variable
    #[arg(allow_negative_numbers = true)]
    name: String,
    /// Value: JSON, a bare word is a string
    #[arg(allow_negative_numbers = true, required_unless_present = "file")]
    value: Option<String>,
    /// When it counts as stored
    #[arg(long, value_enum, default_value_t = AckArg::Home)]
    ack: AckArg,
    /// Store the bytes of this file (`-`: standard input) instead of VALUE
    #[arg(long, conflicts_with = "value")]
    file: Option<PathBuf>,
}

/// Arguments of `out`.
#[derive(Debug, Args)]
pub(crate) struct OutArgs {
    /// Workspace
    #[arg(value_name = "WS", value_parser = workspace)]
    workspace: String,
    /// Tuple: a JSON array
    tuple: String,
    /// When it counts as stored
    #[arg(long, value_enum, default_value_t = AckArg::Home)]
    ack: AckArg,
}

/// When a store counts as done.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AckArg {
    /// Decided and durable at its home
    Home,
    /// Durable on the node asked; it is admitted exactly once, later
    Local,
}

impl AckArg {
    /// As the HTTP API has it.
    fn word(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Local => "local",
        }
    }
}

/// Arguments of the forms that name a variable.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Workspace
    #[arg(value_name = "WS", value_parser = workspace)]
    workspace: String,
    /// Variable
    #[arg(allow_negative_numbers = true)]
    name: String,
    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of the forms that take a template.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// Workspace
    #[arg(value_name = "WS", value_parser = workspace)]
    workspace: String,
    /// Template: a JSON array
    template: String,
    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of `fetch` and `fetch-try`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    lease: LeaseArgs,
}

/// Arguments of `in` and `inp`.
#[derive(Debug, Args)]
pub(crate) struct InArgs {
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    lease: LeaseArgs,
}

/// Options of everything that takes.
#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    /// Take it for so long, as 30s, and print a handle for `cpe space lease` on a second line: what
    /// is not committed or renewed in time goes back
    #[arg(long, value_name = "DURATION", value_parser = lease_span)]
    lease: Option<Duration>,
}

/// What to do with a lease.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Let its time begin anew
    Renew {
        /// Handle that the take printed
        handle: cpe::LeaseHandle,
    },
    /// Remove its value for good: the work is done
    Commit {
        /// Handle that the take printed
        handle: cpe::LeaseHandle,
    },
    /// Put its value back
    Return {
        /// Handle that the take printed
        handle: cpe::LeaseHandle,
    },
}

/// Options of everything that reads.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// Ask the home instead of the replica of the node asked; a take always does
    #[arg(long)]
    fresh: bool,
    /// Write what was read to this file: bytes and text as they are, else JSON
    #[arg(long, value_name = "F")]
    out: Option<PathBuf>,
}

/// Arguments of `declare`.
#[derive(Debug, Args)]
pub(crate) struct DeclareArgs {
    /// Workspace
    #[arg(value_name = "WS", value_parser = workspace)]
    workspace: String,
    /// Variable
    #[arg(allow_negative_numbers = true)]
    name: String,
    /// fifo, lifo, multi or single
    mode: cpe::Mode,
}

/// One of the four ways to read; the word is its path in the HTTP API.
#[derive(Clone, Copy)]
struct How {
    path: &'static str,
    waits: bool,
}

impl How {
    fn takes(self) -> bool {
        matches!(self.path, "in" | "inp")
    }
}

const RD: How = How {
    path: "rd",
    waits: true,
};
const RDP: How = How {
    path: "rdp",
    waits: false,
};
const IN: How = How {
    path: "in",
    waits: true,
};
const INP: How = How {
    path: "inp",
    waits: false,
};

/// Runs a command of the tuple space.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn run(command: SpaceCommand, common: Common) -> Result<Status, Fault> {
    let space = Remote {
        client: Client::of(&common),
        within: common.timeout(),
        common,
    };
    match command {
        SpaceCommand::Store(args) => space.store(args).await,
        SpaceCommand::Out(args) => {
            let tuple = parse_tuple(&args.tuple).map_err(|why| usage("TUPLE", &why))?;
            let body = json!({"tuple": tuple_to_json(&tuple)});
            space.add(&args.workspace, "out", body, args.ack).await
        }
        SpaceCommand::Find(args) => space.named(RD, args, None).await,
        SpaceCommand::FindTry(args) => space.named(RDP, args, None).await,
        SpaceCommand::Fetch(args) => space.named(IN, args.name, args.lease.lease).await,
        SpaceCommand::FetchTry(args) => space.named(INP, args.name, args.lease.lease).await,
        SpaceCommand::Rd(args) => space.matching(RD, args, None).await,
        SpaceCommand::Rdp(args) => space.matching(RDP, args, None).await,
        SpaceCommand::In(args) => space.matching(IN, args.template, args.lease.lease).await,
        SpaceCommand::Inp(args) => space.matching(INP, args.template, args.lease.lease).await,
        SpaceCommand::Lease(command) => space.lease(command).await,
        SpaceCommand::Status { operation } => space.status(operation).await,
        SpaceCommand::Declare(args) => space.declare(args).await,
        SpaceCommand::List { workspace } => space.list(workspace).await,
        SpaceCommand::Delete { workspace, name } => space.delete(&workspace, name).await,
        SpaceCommand::Watch {
            workspace,
            template,
        } => space.watch(&workspace, template).await,
    }
}

struct Remote {
    client: Client,
    within: Duration,
    common: Common,
}

impl Remote {
    async fn store(&self, args: StoreArgs) -> Result<Status, Fault> {
        let name = value("NAME", &args.name)?;
        let value = match (&args.file, &args.value) {
            (Some(file), _) => return self.store_file(&args, name, file).await,
            (None, Some(text)) => value("VALUE", text)?,
            (None, None) => return Err(Fault::usage("neither VALUE nor --file was given")),
        };
        self.add(
            &args.workspace,
            "store",
            json!({"name": name, "value": value}),
            args.ack,
        )
        .await
    }

    async fn add(
        &self,
        workspace: &str,
        path: &str,
        mut body: Value,
        ack: AckArg,
    ) -> Result<Status, Fault> {
        if let Value::Object(body) = &mut body {
            body.insert("ack".to_owned(), Value::from(ack.word()));
        }
        let stored = self.post(workspace, path, body).await?;
        self.show_stored(&stored)
    }

    /// Sends a file as it is read.
    async fn store_file(
        &self,
        args: &StoreArgs,
        name: Value,
        file: &Path,
    ) -> Result<Status, Fault> {
        let query = format!(
            "ack={}&timeout_ms={}",
            args.ack.word(),
            self.within.as_millis()
        );
        let path = format!("{}?{query}", self.value_path(&args.workspace, &name));
        let about = || format!("cannot read {}", file.display());
        let stored = if file == Path::new("-") {
            let pipe = std::io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .about(about())?;
            let pipe = tokio::fs::File::from_std(pipe.into());
            self.client.upload(&path, pipe, PIPE_WITHIN).await?
        } else {
            let file = tokio::fs::File::open(file).await.about(about())?;
            let bytes = file.metadata().await.about(about())?.len();
            if bytes > cpe_tuple::blob::MAX_BLOB_BYTES {
                let most = cpe_tuple::blob::MAX_BLOB_BYTES;
                let why = format!("{bytes} bytes are more than a value may have ({most})");
                return Err(Fault::failed(why).next("store it in parts"));
            }
            let within = self.within + Duration::from_secs(bytes / SLOWEST);
            self.client.upload(&path, file, within).await?
        };
        self.show_stored(&stored)
    }

    /// Writes a value to a file as it comes.
    async fn find_file(&self, how: How, args: &NameArgs, out: &Path) -> Result<Status, Fault> {
        let name = value("NAME", &args.name)?;
        let query = format!("wait={}&timeout_ms={}", how.waits, self.within.as_millis());
        let path = self.value_path(&args.workspace, &name);
        let (method, path) = if how.takes() {
            (Method::POST, format!("{path}/take?{query}"))
        } else {
            (Method::GET, format!("{path}?{query}"))
        };
        let Some(mut parts) = self.client.download(method, &path, self.within).await? else {
            return self.nothing();
        };
        let about = || format!("cannot write {}", out.display());
        let mut file = tokio::fs::File::create(out).await.about(about())?;
        while let Some(bytes) = parts.next().await? {
            file.write_all(&bytes).await.about(about())?;
        }
        file.flush().await.about(about())?;
        Ok(Status::Done)
    }

    fn value_path(&self, workspace: &str, name: &Value) -> String {
        let name = segment(&name.to_string());
        format!("/v1/spaces/{}/values/{name}", segment(workspace))
    }

    fn show_stored(&self, stored: &Value) -> Result<Status, Fault> {
        if self.common.json {
            output::json(stored)?;
        } else if stored.get("stored") == Some(&Value::from("pending")) {
            output::line(format_args!("pending: kept here until its home admits it"))?;
        }
        Ok(Status::Done)
    }

    async fn named(
        &self,
        how: How,
        args: NameArgs,
        lease: Option<Duration>,
    ) -> Result<Status, Fault> {
        // What is to be fresh and may wait asks twice, which only the other form does.
        let twice = args.read.fresh && how.waits && !how.takes();
        if let (Some(out), None, false) = (&args.read.out, lease, twice) {
            let out = out.clone();
            return self.find_file(how, &args, &out).await;
        }
        let template = json!([value("NAME", &args.name)?, {"?": "any"}]);
        let found = self
            .find(how, &args.workspace, template, args.read.fresh, lease)
            .await?;
        let Some((fields, lease)) = found else {
            return self.nothing();
        };
        let value = fields.get(1).cloned().unwrap_or_default();
        self.show("value", value, lease, &args.read)
    }

    async fn matching(
        &self,
        how: How,
        args: TemplateArgs,
        lease: Option<Duration>,
    ) -> Result<Status, Fault> {
        let template = template(&args.template)?;
        match self
            .find(how, &args.workspace, template, args.read.fresh, lease)
            .await?
        {
            Some((tuple, lease)) => self.show("tuple", tuple, lease, &args.read),
            None => self.nothing(),
        }
    }

    /// The tuple, and what the node says of its lease if one was asked for.
    async fn find(
        &self,
        how: How,
        workspace: &str,
        template: Value,
        fresh: bool,
        lease: Option<Duration>,
    ) -> Result<Option<(Value, Option<Value>)>, Fault> {
        let mut body = json!({"template": template, "fresh": fresh});
        if let (Some(lease), Value::Object(body)) = (lease, &mut body) {
            let ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
            body.insert("lease_ms".to_owned(), Value::from(ms));
        }
        let mut found = self.post(workspace, how.path, body).await?;
        if let Some(ms) = found.pointer("/stale/since_ms").and_then(Value::as_u64) {
            let since = Duration::from_millis(ms);
            output::warn(format_args!(
                "no majority of its home has been in reach for {since:.1?}: this is what was known \
                 then; --fresh waits for the home"
            ));
        }
        match found.get_mut("tuple").map(Value::take) {
            Some(tuple @ Value::Array(_)) => Ok(Some((tuple, lease.map(|_| found)))),
            Some(Value::Null) if !how.waits => Ok(None),
            _ => Err(Fault::failed(format!(
                "the node answered without a tuple: {found}"
            ))),
        }
    }

    /// A trying form found nothing: that is an answer, not an error.
    fn nothing(&self) -> Result<Status, Fault> {
        if self.common.json {
            output::json(&Value::Null)?;
        }
        Ok(Status::Nothing)
    }

    /// Shows what was read, as `what` where more than it is shown.
    fn show(
        &self,
        what: &str,
        value: Value,
        lease: Option<Value>,
        read: &ReadArgs,
    ) -> Result<Status, Fault> {
        if let Some(path) = &read.out {
            std::fs::write(path, as_bytes(&value))
                .about(format!("cannot write {}", path.display()))?;
        } else if !self.common.json {
            output::line(format_args!("{}", output::plain(&value)))?;
        } else if lease.is_none() {
            output::json(&value)?;
        }
        let Some(mut lease) = lease else {
            return Ok(Status::Done);
        };
        if self.common.json {
            if let Value::Object(lease) = &mut lease {
                lease.remove("tuple");
                if read.out.is_none() {
                    lease.insert(what.to_owned(), value);
                }
            }
            output::json(&lease)?;
        } else {
            let handle = lease.get("lease").map(output::plain).unwrap_or_default();
            output::line(format_args!("{handle}"))?;
        }
        Ok(Status::Done)
    }

    async fn lease(&self, command: LeaseCommand) -> Result<Status, Fault> {
        let (handle, act) = match command {
            LeaseCommand::Renew { handle } => (handle, "renew"),
            LeaseCommand::Commit { handle } => (handle, "commit"),
            LeaseCommand::Return { handle } => (handle, "return"),
        };
        let path = format!("/v1/leases/{handle}/{act}");
        let done = self.post_to(&path, json!({})).await?;
        if self.common.json {
            output::json(&done)?;
        }
        Ok(Status::Done)
    }

    async fn status(&self, operation: cpe::OpHandle) -> Result<Status, Fault> {
        let path = format!("/v1/operations/{operation}/status");
        let fate = self.post_to(&path, json!({})).await?;
        if self.common.json {
            output::json(&fate)?;
            return Ok(Status::Done);
        }
        let word = fate.get("status").map(output::plain).unwrap_or_default();
        let means = match word.as_str() {
            "open" => "open: not decided, and may still be; ask the node that began it",
            "never" => "never: it was not executed, or undone, and never will be",
            "took" => "took: it took a tuple, which was received or is being put back",
            "leased" => "leased: it took a tuple under a lease",
            "nothing" => "nothing: nothing matched, and nothing was taken",
            "done" => "done: it was executed",
            "refused" => "refused: it was decided and refused; trying again tells why",
            "forgotten" => {
                "forgotten: its node has acknowledged the answer or restarted since; the home \
                 knows no more"
            }
            other => other,
        };
        output::line(format_args!("{means}"))?;
        Ok(Status::Done)
    }

    async fn declare(&self, args: DeclareArgs) -> Result<Status, Fault> {
        let body = json!({"name": value("NAME", &args.name)?, "mode": args.mode.to_string()});
        let done = self.post(&args.workspace, "declare", body).await?;
        if self.common.json {
            output::json(&done)?;
        }
        Ok(Status::Done)
    }

    async fn list(&self, workspace: Option<String>) -> Result<Status, Fault> {
        let path = match &workspace {
            Some(workspace) => format!("/v1/spaces/{}", segment(workspace)),
            None => "/v1/spaces".to_owned(),
        };
        let list = self.client.get(&path, self.within).await?;
        if self.common.json {
            output::json(&list)?;
            return Ok(Status::Done);
        }
        let columns: &[&str] = match workspace {
            Some(_) => &["name", "mode", "tuples", "pending", "shard"],
            None => &["name", "variables", "tuples", "volatile"],
        };
        let empty = match workspace {
            Some(name) => format!("workspace `{name}` holds nothing"),
            None => "no workspaces yet".to_owned(),
        };
        output::table(columns, output::rows(&list, columns), &empty)?;
        Ok(Status::Done)
    }

    async fn delete(&self, workspace: &str, name: Option<String>) -> Result<Status, Fault> {
        let mut path = format!("/v1/spaces/{}", segment(workspace));
        if let Some(name) = name {
            let name = value("NAME", &name)?.to_string();
            path.push_str(&format!("/variables/{}", segment(&name)));
        }
        path.push_str(&format!("?timeout_ms={}", self.within.as_millis()));
        let done = self.client.delete(&path, self.within).await?;
        if self.common.json {
            output::json(&done)?;
        }
        Ok(Status::Done)
    }

    async fn watch(&self, workspace: &str, given: Option<String>) -> Result<Status, Fault> {
        let template = match given {
            Some(text) => template(&text)?,
            None => json!([{"?": "any"}, {"?": "any"}]),
        };
        let query = segment(&template.to_string());
        let path = format!("/v1/spaces/{}/watch?template={query}", segment(workspace));
        let print = async {
            let mut lines = self.client.stream(&path).await?;
            while let Some(line) = lines.next().await? {
                output::json(line.get("tuple").unwrap_or(&line))?;
            }
            Err(Fault::unavailable(
                "the node ended the watch: it is stopping",
            ))
        };
        // Only a time that was asked for ends a watch, and then it has done what it was to do.
        match self.common.timeout {
            None => print.await,
            Some(within) => tokio::time::timeout(within, print)
                .await
                .unwrap_or(Ok(Status::Done)),
        }
    }

    async fn post(&self, workspace: &str, path: &str, body: Value) -> Result<Value, Fault> {
        let path = format!("/v1/spaces/{}/{path}", segment(workspace));
        self.post_to(&path, body).await
    }

    async fn post_to(&self, path: &str, mut body: Value) -> Result<Value, Fault> {
        if let Value::Object(body) = &mut body {
            let within = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
            body.insert("timeout_ms".to_owned(), Value::from(within));
        }
        Ok(self.client.post(path, &body, self.within).await?)
    }
}

/// Reads a value of the command line and gives its JSON form.
pub(super) fn value(what: &str, text: &str) -> Result<Value, Fault> {
    let value = parse_cli_value(text).map_err(|why| usage(what, &why))?;
    Ok(value_to_json(&value))
}

fn template(text: &str) -> Result<Value, Fault> {
    let template = parse_template(text).map_err(|why| usage("TEMPLATE", &why))?;
    Ok(template_to_json(&template))
}

fn usage(what: &str, why: &dyn std::fmt::Display) -> Fault {
    Fault::usage(format!("{what}: {why}"))
}

fn lease_span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text)?;
    if !(cpe::LEASE_TTL_MIN..=cpe::LEASE_TTL_MAX).contains(&span) {
        return Err(format!("{text} is out of bounds: 100ms to 24h"));
    }
    Ok(span)
}

fn workspace(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a workspace needs a name".to_owned());
    }
    Ok(text.to_owned())
}

/// What `--out` writes.
fn as_bytes(value: &Value) -> Vec<u8> {
    if let Some(encoded) = value.get("bytes").and_then(Value::as_str)
        && let Ok(bytes) = STANDARD.decode(encoded)
    {
        return bytes;
    }
    output::plain(value).into_bytes()
}
