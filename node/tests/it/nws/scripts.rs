//! Scripts of the protocol, compared byte for byte: over one node, and with each client at another
//! node of three. Each was played to the original server too (`nwsserver` 1.5.1), and it said the
//! same, but for `differs.txt`, whose comments tell what that server says.
//!
//! A script has one step a line. `a> x|y` sends a request of these arguments as client `a`, and
//! `a< x|y` demands these bytes as its answer, without the strokes. `\t`, `\n` and `\x80` are
//! bytes, `{v}` is a variable id: the same wherever it stands. `a? w|line` asks until a listing of
//! the variables of `w` says so, at any node: who waits is listed at its own. `! a 1111` lets a
//! client begin so.

use std::collections::BTreeMap;
use std::fs;

use super::{Client, alone, door, request, three, until};
use crate::harness::Node;

/// Names the address of an original server to play the scripts to: for trials by hand. It must be
/// new, for what was left over from another play is still there.
const ORIGINAL: &str = "CPE_NWS_ORIGINAL";

/// All operations but `mktemp ws`, whose names a script cannot know, and modes.
const OPERATIONS: [&str; 21] = [
    "open ws|",
    "use ws|",
    "delete ws|",
    "list wss|",
    "list vars|",
    "declare var|",
    "delete var|",
    "store|",
    "fetch|",
    "fetchTry|",
    "find|",
    "findTry|",
    "ifetch|",
    "ifetchTry|",
    "ifind|",
    "ifindTry|",
    "declare var|modes|f|fifo",
    "declare var|modes|l|lifo",
    "declare var|modes|s|single",
    "declare var|iterations|m|multi",
    "declare var|order|odd|sideways",
];

/// The script of what the original server does in another way.
const DIFFERS: &str = "differs.txt";

/// Bytes of a variable id.
const ID: usize = 20;

struct Script<'a> {
    doors: &'a [&'a str],
    greetings: BTreeMap<String, [u8; 4]>,
    clients: BTreeMap<String, Client>,
    ids: BTreeMap<String, Vec<u8>>,
}

/// A field as bytes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, rest) {
            (b'\\', [b't', after @ ..]) => {
                rest = after;
                b'\t'
            }
            (b'\\', [b'n', after @ ..]) => {
                rest = after;
                b'\n'
            }
            (b'\\', [b'x', a, b, after @ ..]) => {
                rest = after;
                let digits = [*a, *b];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            _ => *first,
        });
    }
    bytes
}

fn id(field: &str) -> Option<&str> {
    field.strip_prefix('{')?.strip_suffix('}')
}

impl Script<'_> {
    fn client(&mut self, name: &str) -> &mut Client {
        if !self.clients.contains_key(name) {
            let at = usize::from(name.as_bytes()[0] - b'a') % self.doors.len();
            let first = self.greetings.get(name).unwrap_or(b"1112");
            let client = Client::greets_at(self.doors[at], first);
            self.clients.insert(name.to_owned(), client);
        }
        self.clients.get_mut(name).unwrap()
    }

    fn step(&mut self, line: &str) {
        if let Some(greeting) = line.strip_prefix("! ") {
            let (name, first) = greeting.split_once(' ').unwrap();
            let first = first.as_bytes().try_into().unwrap();
            self.greetings.insert(name.to_owned(), first);
            return;
        }
        let (step, text) = line.split_once(' ').unwrap();
        let (name, kind) = step.split_at(1);
        match kind {
            ">" => {
                let fields = text.split('|').map(|field| match id(field) {
                    Some(variable) => self.ids[variable].clone(),
                    None => unescape(field),
                });
                let fields: Vec<Vec<u8>> = fields.collect();
                let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
                self.client(name).send(&request(&fields));
            }
            "<" => {
                for field in text.split('|') {
                    let Some(variable) = id(field) else {
                        let wanted = unescape(field);
                        let got = self.client(name).read(wanted.len());
                        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
                        assert_eq!(shown(&got), shown(&wanted), "{line}");
                        continue;
                    };
                    let got = self.client(name).read(ID);
                    let known = self
                        .ids
                        .entry(variable.to_owned())
                        .or_insert_with(|| got.clone());
                    assert_eq!(*known, got, "{line}");
                    assert_ne!(got, [b' '; ID], "{line}");
                }
            }
            "?" => {
                let (workspace, wanted) = text.split_once('|').unwrap();
                let wanted = String::from_utf8(unescape(wanted)).unwrap();
                until(&format!("it is listed: {wanted}"), || {
                    self.doors.iter().any(|door| {
                        let mut client = Client::greets_at(door, b"1112");
                        client.status(&["use ws", workspace, "", "no"], "0000");
                        let listed = client.get(&["list vars", workspace]).unwrap();
                        listed.lines().any(|line| line == wanted)
                    })
                });
            }
            _ => panic!("{line}"),
        }
    }
}

fn play(nodes: &[&Node]) {
    let doors: Vec<&str> = nodes.iter().map(|node| door(node)).collect();
    play_at(&doors, |_| true);
}

/// Plays the scripts of these names, and demands that they have all operations.
fn play_at(doors: &[&str], wanted: impl Fn(&str) -> bool) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/nws/scripts");
    let mut scripts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    scripts.retain(|path| wanted(path.file_name().unwrap().to_str().unwrap()));
    scripts.sort();
    let mut untried = OPERATIONS.to_vec();
    for path in scripts {
        let mut script = Script {
            doors,
            greetings: BTreeMap::new(),
            clients: BTreeMap::new(),
            ids: BTreeMap::new(),
        };
        let text = fs::read_to_string(&path).unwrap();
        untried.retain(|operation| !text.contains(&format!("> {operation}")));
        let steps = text.lines().filter(|line| !line.starts_with('#'));
        steps.for_each(|line| script.step(line));
        // Nothing more was said than was asked for.
        for client in script.clients.values_mut() {
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut client.stream, &mut rest).ok();
            assert_eq!(rest.escape_ascii().to_string(), "", "{}", path.display());
        }
    }
    assert_eq!(untried, [""; 0], "no script asks for it");
}

#[test]
fn scripted_conversations_are_to_the_byte_over_one_node() {
    play(&[&alone()]);
}

#[test]
fn scripted_conversations_are_to_the_byte_over_three_nodes() {
    let [a, b, c] = three();
    play(&[&a, &b, &c]);
}

/// `NWS_SERVER_PORT=9865 NWS_WEB_PORT=9866 twistd -noy misc/nws.tac` in the folder of `nwsserver`
/// 1.5.1, with Twisted 20.3 for Python 2.7, is such a server.
#[test]
fn the_original_server_says_the_same_where_one_is_given() {
    if let Some(original) = std::env::var_os(ORIGINAL) {
        let address = original.to_str().unwrap();
        play_at(&[address], |name| name != DIFFERS);
    }
}
