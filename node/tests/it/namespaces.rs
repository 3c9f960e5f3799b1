//! Hosts of their own: network namespaces with addresses, joined by a bridge.
//!
//! `three_hosts_share_a_space` is the two-host recipe of `docs/getting-started.md` as a test. Who
//! is not root gets namespaces of its own from `unshare -Ur`. Where namespaces may not be made, or
//! `ip` (iproute2) is missing, each test is reported as skipped by name; what fails after that
//! fails the test.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::harness::{Node, Ran, cpe, until};

/// A bridge and hosts on it: 10.77.0.1, .2 and so on. A second bridge is there for those who are
/// parted from the others.
#[derive(Debug)]
pub(crate) struct Hosts {
    prefix: String,
    hosts: &'static [&'static str],
}

const HOSTS: &[&str] = &["a", "b", "c"];

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("ip {}: {}", args.join(" "), said.trim()))
        }
        Err(error) => Err(format!("ip: {error}")),
    }
}

/// Set for a test that runs inside namespaces made for it.
const INSIDE: &str = "TEST_RUNS_INSIDE_NAMESPACES";

/// Runs the test where it may make namespaces, otherwise says that the test is skipped.
fn with_namespaces(test: &str, body: impl FnOnce()) {
    if let Err(why) = in_namespaces(&format!("namespaces::{test}"), body) {
        skipped(test, &why);
    }
}

/// Runs a test, given by its path, where it may make namespaces: here, or as a process that is root
/// of its own ones. Why it may not, otherwise.
pub(crate) fn in_namespaces(test: &str, body: impl FnOnce()) -> Result<(), String> {
    let probe = format!("cpe{}{}", std::process::id(), test.len());
    let Err(why) = ip(&["netns", "add", &probe]) else {
        ip(&["netns", "delete", &probe]).unwrap();
        body();
        return Ok(());
    };
    // `ip netns` keeps its names under /run.
    let prepare = "mount -t tmpfs tmpfs /run && ip netns add probe && ip netns delete probe";
    let unshared = |line: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["-Urnm", "sh", "-c", line])
            .stdin(Stdio::null());
        command
    };
    let probed = unshared(prepare).output();
    let may = probed.is_ok_and(|output| output.status.success());
    if !may || std::env::var_os(INSIDE).is_some() {
        return Err(why);
    }
    let mut again = unshared(&format!("{prepare} && exec \"$0\" \"$@\""));
    again.arg(std::env::current_exe().unwrap());
    again.args(["--exact", "--nocapture", test]);
    let output = again.env(INSIDE, "1").output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    Ok(())
}

impl Hosts {
    /// # Panics
    /// When any of it fails: namespaces may be made here, so it is no reason to skip the test.
    pub(crate) fn new(tag: &str, hosts: &'static [&'static str]) -> Self {
        Self::make(tag, hosts).unwrap_or_else(|why| panic!("cannot set up the hosts: {why}"))
    }

    fn make(tag: &str, names: &'static [&'static str]) -> Result<Self, String> {
        let hosts = Self {
            prefix: format!("cpe{}{tag}", std::process::id()),
            hosts: names,
        };
        let switch = hosts.name("x");
        ip(&["netns", "add", &switch])?;
        for bridge in ["br0", "br1"] {
            ip(&["-n", &switch, "link", "add", bridge, "type", "bridge"])?;
            ip(&["-n", &switch, "link", "set", bridge, "up"])?;
        }
        for (n, host) in names.iter().enumerate() {
            let name = hosts.name(host);
            ip(&["netns", "add", &name])?;
            let port = format!("port{n}");
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0",
                "netns", &name,
            ])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            let address = format!("10.77.0.{}/24", n + 1);
            ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "link", "set", "eth0", "multicast", "on", "up"])?;
            ip(&["-n", &name, "route", "add", "224.0.0.0/4", "dev", "eth0"])?;
        }
        Ok(hosts)
    }

    /// Joins a host to the first or the second bridge: hosts on different ones do not reach each
    /// other.
    pub(crate) fn part(&self, n: usize, second: bool) {
        let (switch, port) = (self.name("x"), format!("port{n}"));
        let bridge = if second { "br1" } else { "br0" };
        ip(&["-n", &switch, "link", "set", &port, "master", bridge]).unwrap();
    }

    /// Moves this thread to a host: what it dials from now on, it dials from there.
    pub(crate) fn enter(&self, host: &str) {
        let path = format!("/run/netns/{}", self.name(host));
        let space = std::fs::File::open(path).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// The binary, on a host.
    pub(crate) fn on(&self, host: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(host)])
            .arg(cpe().get_program());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CPE_") {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    fn cpe(&self, host: &str, args: &[&str]) -> Ran {
        Ran::of(self.on(host).args(args).output().unwrap())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in self.hosts.iter().chain(&["x"]) {
            ip(&["netns", "delete", &self.name(host)]).ok();
        }
    }
}

/// Says that a test is skipped, and why.
pub(crate) fn skipped(test: &str, why: &str) {
    let line = format!("{test}: {why}");
    println!("skipped: {line}");
    if let Some(list) = std::env::var_os("CPE_SKIPPED_TESTS") {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(list)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

impl Hosts {
    /// Starts a node on a host, listening where others reach it.
    pub(crate) fn start(&self, host: &str, args: &[&str]) -> Node {
        let n = 1 + self.hosts.iter().position(|name| *name == host).unwrap();
        let listen = format!("/ip4/10.77.0.{n}/tcp/4710");
        let mut command = self.on(host);
        command
            .args(["node", "--json", "--name", host, "--listen", &listen])
            .args(args);
        Node::run(command)
    }

    /// Waits until these hosts see each other alive.
    fn meet(&self, hosts: &[&str]) {
        until("each host sees all members alive", || {
            hosts.iter().all(|host| {
                let peers = self.cpe(host, &["mesh", "peers", "--json"]).json();
                let alive = |peer: &&serde_json::Value| peer["state"] == "alive";
                peers.as_array().unwrap().iter().filter(alive).count() == hosts.len()
            })
        });
    }
}

#[test]
fn three_hosts_share_a_space() {
    with_namespaces("three_hosts_share_a_space", || {
        let hosts = Hosts::new("s", HOSTS);
        let a = hosts.start("a", &[]);
        // As the page says: the key is copied, and the address is one that a printed.
        let copied = tempfile::tempdir().unwrap();
        let key = copied.path().join("mesh.key");
        std::fs::copy(a.data().join("mesh.key"), &key).unwrap();
        let key = key.to_str().unwrap();
        assert!(a.address().starts_with("/ip4/10.77.0.1/tcp/4710/p2p/"));
        let join = ["--mesh-key", key, "--bootstrap", a.address()];
        let _b = hosts.start("b", &join);
        let _c = hosts.start("c", &join);
        hosts.meet(HOSTS);

        hosts.cpe("b", &["space", "store", "w", "x", "17"]).code(0);
        let fetched = hosts.cpe("a", &["space", "fetch", "w", "x"]).code(0);
        assert_eq!(fetched.out, "17\n");
        hosts.cpe("c", &["space", "fetch-try", "w", "x"]).code(3);

        hosts.cpe("a", &["space", "store", "w", "y", "18"]).code(0);
        let found = hosts.cpe("c", &["space", "find", "w", "y"]).code(0);
        assert_eq!(found.out, "18\n");
    });
}

#[test]
fn hosts_find_each_other_by_multicast() {
    with_namespaces("hosts_find_each_other_by_multicast", || {
        let hosts = Hosts::new("m", HOSTS);
        let a = hosts.start("a", &["--mdns"]);
        let key = a.data().join("mesh.key");
        // No bootstrap address.
        let _b = hosts.start("b", &["--mdns", "--mesh-key", key.to_str().unwrap()]);
        hosts.meet(&["a", "b"]);
    });
}
