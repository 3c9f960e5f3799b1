//! Three hosts: network namespaces with addresses of their own, joined by a bridge.
//!
//! This is the two-host recipe of `docs/getting-started.md` as a test. Where namespaces may not be
//! made, or `ip` (iproute2) is missing, it is reported as skipped by name.

use std::io::Write;
use std::process::{Command, Stdio};

use super::harness::{Node, Ran, cpe, until};

/// A bridge and three hosts on it: 10.77.0.1, .2 and .3.
struct Hosts {
    prefix: String,
}

const HOSTS: [&str; 3] = ["a", "b", "c"];

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

impl Hosts {
    fn new() -> Result<Self, String> {
        let hosts = Self {
            prefix: format!("cpe{}", std::process::id()),
        };
        let switch = hosts.name("x");
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for (n, host) in HOSTS.iter().enumerate() {
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
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        Ok(hosts)
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// The binary, on a host.
    fn on(&self, host: &str) -> Command {
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
        for host in HOSTS.iter().chain(&["x"]) {
            ip(&["netns", "delete", &self.name(host)]).ok();
        }
    }
}

fn skipped(why: &str) {
    let line = format!("three_hosts_share_a_space: {why}");
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

#[test]
fn three_hosts_share_a_space() {
    let hosts = match Hosts::new() {
        Ok(hosts) => hosts,
        Err(why) => return skipped(&why),
    };
    let start = |host: &str, n: u8, args: &[&str]| {
        let listen = format!("/ip4/10.77.0.{n}/tcp/4710");
        let mut command = hosts.on(host);
        command
            .args(["node", "--json", "--name", host, "--listen", &listen])
            .args(args);
        Node::run(command)
    };
    let a = start("a", 1, &[]);
    let key = a.data().join("mesh.key");
    let key = key.to_str().unwrap();
    let peer = a.ready["peer"].as_str().unwrap();
    let bootstrap = format!("/ip4/10.77.0.1/tcp/4710/p2p/{peer}");
    let join = ["--mesh-key", key, "--bootstrap", &bootstrap];
    let _b = start("b", 2, &join);
    let _c = start("c", 3, &join);

    until("each host sees three members alive", || {
        HOSTS.iter().all(|host| {
            let peers = hosts.cpe(host, &["mesh", "peers", "--json"]).json();
            let alive = |peer: &&serde_json::Value| peer["state"] == "alive";
            peers.as_array().unwrap().iter().filter(alive).count() == 3
        })
    });
    hosts.cpe("b", &["space", "store", "w", "x", "17"]).code(0);
    assert_eq!(
        hosts.cpe("c", &["space", "find", "w", "x"]).code(0).out,
        "17\n"
    );
    assert_eq!(
        hosts.cpe("c", &["space", "fetch", "w", "x"]).code(0).out,
        "17\n"
    );
    hosts.cpe("a", &["space", "fetch-try", "w", "x"]).code(3);
}
