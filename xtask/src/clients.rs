//! Programs of others that tests of the NetWorkSpaces gateway run: the original Python client with
//! its own tests, and Jython, which runs Python 2.
//!
//! The client is downloaded as it stands in Python's package index, checked against its hash, and
//! unpacked into `.tools`; nothing of it becomes part of this project. Jython comes from the
//! system: where it is missing, and this is root on a system with `apt-get`, it is installed. A
//! machine that can have neither skips those tests, and their names are told at the end. CPython
//! 2.7 is in no distribution any more: it is used where somebody has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{answers, capture, say};
use crate::setup::python_with_pip;
use crate::workspace::Root;

/// Tells the tests where the client is.
pub(crate) const VARIABLE: &str = "CPE_NWSCLIENT";

/// Tells the tests which program is CPython 2.7. Set by a user, it is taken at its word.
pub(crate) const PYTHON2: &str = "CPE_PYTHON2";

/// Runs what takes minutes in Jython, and seconds in CPython.
const BY_SSH: &str = "cargo nextest run -p cpe-node --run-ignored only -E 'test(by_ssh)' \
    (with CPE_NWSCLIENT)";

/// The client's last release for Python 2.
const NAME: &str = "nwsclient-1.6.3";

/// Its source distribution with its SHA-256, as pip reads it.
const REQUIREMENT: &str = "nwsclient==1.6.3 \
    --hash=sha256:2c54471830b048334f50156e8b825a158ba1790ba2961593fdbcaf4564234d30\n";

/// The original client, and what runs it here. Either interpreter will do.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    /// The client's folder; none where it cannot be had, or nothing would run it.
    pub(crate) client: Option<PathBuf>,
    /// CPython 2.7.
    pub(crate) python2: Option<PathBuf>,
}

/// Gets the client, and looks for each interpreter.
pub(crate) fn get(root: &Root) -> Clients {
    let python2 = python2();
    let jython = jython();
    if let Err(why) = &jython {
        say(&format!("test: without Jython: {why:#}"));
    }
    if python2.is_none() && jython.is_err() {
        say("test: without the original NetWorkSpaces client: nothing here runs it");
        return Clients::default();
    }
    if python2.is_none() {
        say(&format!(
            "test: two of the client's tests run when asked for: {BY_SSH}"
        ));
    }
    let client = client(root.path());
    if let Err(why) = &client {
        say(&format!(
            "test: without the original NetWorkSpaces client: {why:#}"
        ));
    }
    Clients {
        client: client.ok(),
        python2,
    }
}

/// CPython 2.7, if it is somewhere: named by the environment, or on the path, or one of those that
/// pyenv keeps.
fn python2() -> Option<PathBuf> {
    let named = std::env::var_os(PYTHON2).map(PathBuf::from);
    let kept = || {
        let prefix = capture(Command::new("pyenv").args(["prefix", "2.7"])).ok()?;
        Some(Path::new(prefix.trim()).join("bin/python2.7"))
    };
    let found = [named, Some("python2.7".into())].into_iter().flatten();
    let runs = |python: &PathBuf| answers(Command::new(python).args(["-c", "print 1"]));
    let python = found
        .chain(std::iter::once_with(kept).flatten())
        .find(|python| runs(python));
    if python.is_none() {
        say("test: without CPython 2.7, which the original client was written for");
    }
    python
}

fn jython() -> Result<()> {
    if there() {
        return Ok(());
    }
    if capture(Command::new("id").arg("-u"))
        .unwrap_or_default()
        .trim()
        != "0"
    {
        bail!("jython is not installed (Debian, Ubuntu: `apt install jython`)");
    }
    say("test: installing jython with apt-get, for the tests of the original client");
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        capture(apt.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "--yes", "--no-install-recommends", "jython"];
    if apt(&install).is_err() {
        // The list of packages may be old, or not there yet.
        apt(&["update"])?;
        apt(&install)?;
    }
    if !there() {
        bail!("jython was installed and does not run");
    }
    Ok(())
}

fn there() -> bool {
    answers(Command::new("jython").arg("--version"))
}

fn client(root: &Path) -> Result<PathBuf> {
    let tools = root.join(".tools");
    let place = tools.join(NAME);
    if place.join("nws/client.py").is_file() {
        return Ok(place);
    }
    let work = tools.join(format!("client-{}", std::process::id()));
    let result = download(&work, &place);
    let _ = fs::remove_dir_all(&work);
    result.context("cannot get the client by pip")?;
    Ok(place)
}

/// Downloads, checks and unpacks. What is half done never gets its final name.
fn download(work: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let python = python_with_pip(work)?;
    let requirements = work.join("requirements.txt");
    fs::write(&requirements, REQUIREMENT).context("cannot write the requirements file")?;
    capture(
        Command::new(&python)
            .args(["-m", "pip", "download", "--no-deps", "--no-binary", ":all:"])
            .args(["--disable-pip-version-check", "--require-hashes"])
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(work),
    )?;
    let archive = work.join(format!("{NAME}.tar.gz"));
    capture(
        Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(work),
    )?;
    fs::rename(work.join(NAME), place)
        .with_context(|| format!("cannot move the client to {}", place.display()))
}
