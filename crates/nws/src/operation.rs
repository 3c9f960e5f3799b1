//! What a request asks for.

use cpe_space::Mode;
use cpe_tuple::Blob;

use crate::payload;
use crate::wire::{Reply, Request};

/// A request's meaning. Names and texts are bytes: the protocol knows no character set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Refer to a workspace and own it if nobody does.
    OpenWs {
        /// Its name.
        name: Vec<u8>,
        /// What the client says of itself.
        owner: Vec<u8>,
        /// Keep it when its owner is gone.
        persistent: bool,
        /// Make it if it is not there.
        create: bool,
    },
    /// Refer to a workspace.
    UseWs {
        /// Its name.
        name: Vec<u8>,
        /// Make it if it is not there.
        create: bool,
    },
    /// Delete a workspace.
    DeleteWs {
        /// Its name.
        name: Vec<u8>,
    },
    /// Make a workspace with a new name.
    MktempWs {
        /// The name, with one `%d`, or `%04d` and the like.
        template: Vec<u8>,
    },
    /// List workspaces.
    ListWss {
        /// Only this one.
        name: Option<Vec<u8>>,
    },
    /// List the variables of a workspace.
    ListVars {
        /// The workspace.
        ws: Vec<u8>,
    },
    /// Set the mode of a variable.
    DeclareVar {
        /// The workspace.
        ws: Vec<u8>,
        /// The variable.
        variable: Vec<u8>,
        /// Its mode.
        mode: Mode,
    },
    /// Delete a variable.
    DeleteVar {
        /// The workspace.
        ws: Vec<u8>,
        /// The variable.
        variable: Vec<u8>,
    },
    /// Add a value.
    Store {
        /// The workspace.
        ws: Vec<u8>,
        /// The variable.
        variable: Vec<u8>,
        /// What the client says of the value.
        descriptor: u64,
        /// The value.
        payload: Payload,
        /// The life of the variable that is meant, if one is.
        life: Option<u64>,
    },
    /// Read or take a value.
    Retrieve {
        /// The workspace.
        ws: Vec<u8>,
        /// The variable.
        variable: Vec<u8>,
        /// How.
        how: Retrieve,
    },
}

/// A value to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// This.
    Whole(Vec<u8>),
    /// A large one, which the space has already.
    Apart(Blob),
}

/// How a value is read or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrieve {
    /// Leave the value and answer with a copy.
    pub leave: bool,
    /// Wait for a value.
    pub wait: bool,
    /// The next one of an iteration.
    pub after: Option<cpe_space::After>,
}

/// Why a request means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Senseless {
    /// Nothing can be answered, for the form of the answer is not known: the connection is closed.
    Unknown(String),
    /// This is the answer.
    Refused(Reply),
}

/// A life that no variable has.
const NO_LIFE: u64 = u64::MAX;

/// Characters of an operation's name shown in the log.
const SHOWN_MAX: usize = 40;

impl Operation {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Senseless`]: an operation that does not exist, or with other arguments than it has.
    pub fn read(request: Request) -> Result<Self, Senseless> {
        let too_large = request.is_too_large;
        let apart = request.apart;
        let mut arguments = request.arguments.into_iter();
        let name = arguments.next().unwrap_or_default();
        let arguments: Vec<Vec<u8>> = arguments.collect();
        let Some((refusal, fewest, most)) = form(&name) else {
            let shown = name.escape_ascii().to_string();
            return Err(Senseless::Unknown(shown.chars().take(SHOWN_MAX).collect()));
        };
        if too_large || !(fewest..=most).contains(&arguments.len()) {
            return Err(Senseless::Refused(refusal));
        }
        let mut arguments = arguments.into_iter();
        let mut next = || arguments.next();
        let operation = match name.as_slice() {
            b"open ws" => Self::OpenWs {
                name: next().unwrap_or_default(),
                owner: next().unwrap_or_default(),
                persistent: next().as_deref() == Some(b"yes"),
                create: next().is_none_or(|create| create == b"yes"),
            },
            b"use ws" => {
                let name = next().unwrap_or_default();
                let (_owner, _persistent) = (next(), next());
                let create = next().is_none_or(|create| create == b"yes");
                Self::UseWs { name, create }
            }
            b"delete ws" => Self::DeleteWs {
                name: next().unwrap_or_default(),
            },
            b"mktemp ws" => Self::MktempWs {
                template: next().unwrap_or_else(|| b"__ws__%d".to_vec()),
            },
            b"list wss" => Self::ListWss { name: next() },
            b"list vars" => Self::ListVars {
                ws: next().unwrap_or_default(),
            },
            b"declare var" => Self::DeclareVar {
                ws: next().unwrap_or_default(),
                variable: next().unwrap_or_default(),
                mode: mode(&next().unwrap_or_default()),
            },
            b"delete var" => Self::DeleteVar {
                ws: next().unwrap_or_default(),
                variable: next().unwrap_or_default(),
            },
            b"store" => Self::Store {
                ws: next().unwrap_or_default(),
                variable: next().unwrap_or_default(),
                descriptor: next()
                    .and_then(|text| number(&text))
                    .ok_or(Senseless::Refused(refusal))?,
                payload: {
                    let whole = next().unwrap_or_default();
                    apart.map_or(Payload::Whole(whole), Payload::Apart)
                },
                life: next().and_then(|text| life(&text)),
            },
            other => {
                let (ws, variable) = (next().unwrap_or_default(), next().unwrap_or_default());
                let after = if other.starts_with(b"i") {
                    let variable = next().and_then(|text| life(&text));
                    let ordinal = next().and_then(|text| number(&text));
                    let ordinal = ordinal.ok_or(Senseless::Refused(refusal))?;
                    Some(cpe_space::After { variable, ordinal })
                } else {
                    None
                };
                let verb = other.strip_prefix(b"i").unwrap_or(other);
                Self::Retrieve {
                    ws,
                    variable,
                    how: Retrieve {
                        leave: verb.starts_with(b"find"),
                        wait: !verb.ends_with(b"Try"),
                        after,
                    },
                }
            }
        };
        Ok(operation)
    }
}

/// How an operation is refused, and the fewest and most arguments it has.
fn form(operation: &[u8]) -> Option<(Reply, usize, usize)> {
    let refused = Reply::Status(false);
    Some(match operation {
        b"open ws" => (refused, 3, 4),
        b"use ws" => (refused, 1, 4),
        b"delete ws" => (refused, 1, 1),
        b"mktemp ws" | b"list wss" => (Reply::Nothing, 0, 1),
        b"list vars" => (Reply::Nothing, 1, 1),
        b"declare var" => (refused, 3, 3),
        b"delete var" => (refused, 2, 2),
        b"store" => (refused, 4, 5),
        b"fetch" | b"fetchTry" | b"find" | b"findTry" => (Reply::Nothing, 2, 2),
        b"ifetch" | b"ifetchTry" | b"ifind" | b"ifindTry" => (Reply::Nothing, 4, 4),
        _ => return None,
    })
}

fn mode(name: &[u8]) -> Mode {
    match name {
        b"lifo" => Mode::Lifo,
        b"multi" => Mode::Multi,
        b"single" => Mode::Single,
        // An unrecognised mode counts as fifo.
        _ => Mode::Fifo,
    }
}

/// Which argument of a `store` is the descriptor.
pub(crate) const DESCRIPTOR: usize = 3;

/// Whether a descriptor says that the payload is text.
pub(crate) fn is_text(descriptor: &[u8]) -> bool {
    number(descriptor).is_some_and(|descriptor| descriptor & payload::STRING != 0)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// A variable id: blank for none, else the digits this gateway gave.
fn life(text: &[u8]) -> Option<u64> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    Some(number(text).unwrap_or(NO_LIFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Operation, Senseless> {
        let arguments = arguments.iter().map(|text| text.as_bytes().to_vec());
        Operation::read(Request {
            arguments: arguments.collect(),
            ..Request::default()
        })
    }

    fn retrieve(arguments: &[&str]) -> Retrieve {
        match read(arguments) {
            Ok(Operation::Retrieve { how, .. }) => how,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_eight_ways_to_a_value_differ_in_what_they_say() {
        for (name, leave, wait) in [
            ("fetch", false, true),
            ("fetchTry", false, false),
            ("find", true, true),
            ("findTry", true, false),
        ] {
            let how = retrieve(&[name, "w", "v"]);
            assert_eq!((how.leave, how.wait, how.after), (leave, wait, None));
            let iterates = format!("i{name}");
            let (blank, index) = (" ".repeat(20), "0".repeat(20));
            let how = retrieve(&[&iterates, "w", "v", &blank, &index]);
            assert_eq!((how.leave, how.wait), (leave, wait));
            let begin = cpe_space::After {
                variable: None,
                ordinal: 0,
            };
            assert_eq!(how.after, Some(begin));
        }
    }

    #[test]
    fn an_id_of_another_server_is_no_life_of_ours() {
        let how = retrieve(&[
            "ifind",
            "w",
            "v",
            "abc                 ",
            "00000000000000000007",
        ]);
        assert_eq!(how.after.unwrap().variable, Some(NO_LIFE));
    }

    #[test]
    fn a_wrong_number_of_arguments_is_refused_in_the_form_of_the_answer() {
        let refused = |arguments: &[&str], reply| {
            assert_eq!(read(arguments), Err(Senseless::Refused(reply)));
        };
        refused(&["open ws", "w"], Reply::Status(false));
        refused(&["fetch", "w"], Reply::Nothing);
        refused(&["store", "w", "v", "x", "payload"], Reply::Status(false));
        refused(&["ifind", "w", "v", "", "seven"], Reply::Nothing);
        assert!(matches!(read(&["ping"]), Err(Senseless::Unknown(_))));
    }

    #[test]
    fn an_unrecognised_mode_is_fifo() {
        assert_eq!(mode(b"garbage"), Mode::Fifo);
        assert_eq!(mode(b"single"), Mode::Single);
    }
}
