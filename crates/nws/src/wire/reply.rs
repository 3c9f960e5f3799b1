//! Replies as bytes.

use bytes::Bytes;

/// What the server says first.
pub const HANDSHAKE: &[u8; 4] = b"2223";

/// Whether a client that began with these bytes gets the long form of values.
#[must_use]
pub fn has_cookies(handshake: [u8; 4]) -> bool {
    !matches!(&handshake, b"0000" | b"1111")
}

/// Where an iteration has come to: what the next request of it sends back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The life of the variable.
    pub variable: u64,
    /// Which of its values.
    pub index: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, or refused.
    Status(bool),
    /// A value.
    Value {
        /// What its writer said of it.
        descriptor: u64,
        /// Where it stands; none for listings.
        cookie: Option<Cookie>,
        /// The value.
        payload: Bytes,
    },
    /// No value: a miss or a refusal.
    Nothing,
}

impl Reply {
    /// A text that is no variable's value.
    #[must_use]
    pub fn text(text: Vec<u8>) -> Self {
        Self::Value {
            descriptor: 0,
            cookie: None,
            payload: text.into(),
        }
    }

    /// What goes before the payload, and the payload.
    #[must_use]
    pub fn encode(self, has_cookies: bool) -> (Vec<u8>, Bytes) {
        match self {
            Self::Status(done) => (status(done).to_vec(), Bytes::new()),
            Self::Value {
                descriptor,
                cookie,
                payload,
            } => {
                let head = Head {
                    descriptor,
                    cookie,
                    length: payload.len() as u64,
                };
                (head.encode(has_cookies), payload)
            }
            Self::Nothing => (head(false, Head::default(), has_cookies), Bytes::new()),
        }
    }
}

/// What goes before the payload of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What its writer said of it.
    pub descriptor: u64,
    /// Where it stands.
    pub cookie: Option<Cookie>,
    /// Bytes of the payload that follows.
    pub length: u64,
}

impl Head {
    /// Its bytes.
    #[must_use]
    pub fn encode(self, has_cookies: bool) -> Vec<u8> {
        head(true, self, has_cookies)
    }
}

fn head(done: bool, about: Head, has_cookies: bool) -> Vec<u8> {
    let mut head = status(done).to_vec();
    head.extend(number(about.descriptor).into_bytes());
    if has_cookies {
        let cookie = about.cookie;
        let variable = cookie.map(|cookie| number(cookie.variable));
        head.extend(format!("{:20}", variable.unwrap_or_default()).into_bytes());
        head.extend(number(cookie.map_or(0, |cookie| cookie.index)).into_bytes());
    }
    head.extend(number(about.length).into_bytes());
    head
}

fn status(done: bool) -> &'static [u8; 4] {
    if done { b"0000" } else { b"0001" }
}

fn number(n: u64) -> String {
    format!("{n:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: Reply, cookies: bool, wanted: &str) {
        let (mut bytes, payload) = reply.encode(cookies);
        bytes.extend(&payload);
        assert_eq!(String::from_utf8(bytes).unwrap(), wanted.replace('|', ""));
    }

    #[test]
    fn replies_have_the_form_of_the_protocol() {
        let value = || Reply::Value {
            descriptor: 0x0100_0001,
            cookie: Some(Cookie {
                variable: 17,
                index: 3,
            }),
            payload: Bytes::from_static(b"hello"),
        };
        check(Reply::Status(true), true, "0000");
        check(Reply::Status(false), false, "0001");
        check(
            value(),
            true,
            "0000|00000000000016777217|00000000000000000017|00000000000000000003|\
             00000000000000000005|hello",
        );
        check(
            value(),
            false,
            "0000|00000000000016777217|00000000000000000005|hello",
        );
        check(
            Reply::Nothing,
            true,
            "0001|00000000000000000000|                    |00000000000000000000|\
             00000000000000000000",
        );
        check(
            Reply::text(b"x".to_vec()),
            false,
            "0000|00000000000000000000|00000000000000000001|x",
        );
    }

    #[test]
    fn old_clients_get_the_short_form() {
        for (first, cookies) in [
            (b"0000", false),
            (b"1111", false),
            (b"1112", true),
            (b"abcd", true),
        ] {
            assert_eq!(has_cookies(*first), cookies);
        }
    }
}
