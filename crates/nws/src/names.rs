//! Names of clients, which are bytes, as names in the space, which are text.

use cpe_tuple::Value;

use crate::limits::NAME_BYTES_MAX;

/// Before a workspace's name that stands here in hexadecimal: it is no text, or looks like a name
/// that the mesh uses itself.
const HEX: &str = "#nws:";

/// So begin the names of workspaces that the mesh uses itself and keeps in memory.
const KEPT_BY_THE_MESH: &str = "tmp:#";

/// The workspace of the space that a name means; none for a name that is empty or too long.
pub(crate) fn workspace(name: &[u8]) -> Option<String> {
    let plain = std::str::from_utf8(name).ok();
    let plain = plain.filter(|text| !text.starts_with('#') && !text.starts_with(KEPT_BY_THE_MESH));
    let text = match plain {
        Some(text) => text.to_owned(),
        None => {
            let digits = name.iter().map(|byte| format!("{byte:02x}"));
            std::iter::once(HEX.to_owned()).chain(digits).collect()
        }
    };
    (1..=NAME_BYTES_MAX).contains(&text.len()).then_some(text)
}

/// The name that means a workspace of the space; none for those that no name means.
pub(crate) fn of_workspace(workspace: &str) -> Option<Vec<u8>> {
    let Some(digits) = workspace.strip_prefix(HEX) else {
        let own = workspace.starts_with('#') || workspace.starts_with(KEPT_BY_THE_MESH);
        return (!own).then(|| workspace.as_bytes().to_vec());
    };
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

/// The first field of a variable's tuples; none for a name that is too long.
pub(crate) fn variable(name: &[u8]) -> Option<Value> {
    (name.len() <= NAME_BYTES_MAX).then(|| text(name))
}

/// Text if it is text, else bytes.
pub(crate) fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::Bytes(bytes.to_vec()),
    }
}

/// A first field as a client sees it.
pub(crate) fn shown(name: &Value) -> Vec<u8> {
    match name {
        Value::String(text) | Value::Symbol(text) => text.clone().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        other => cpe_tuple::json::value_to_json(other)
            .to_string()
            .into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_workspace_has_its_own_place() {
        let names: [&[u8]; 7] = [
            b"a b",
            b"#a",
            b"\xff",
            b"#nws:ff",
            b"ff",
            b"tmp:a",
            b"tmp:#map",
        ];
        let mut places: Vec<_> = names.iter().map(|name| workspace(name).unwrap()).collect();
        assert_eq!(places[0], "a b");
        for (name, place) in names.iter().zip(&places) {
            assert_eq!(of_workspace(place).as_deref(), Some(*name));
        }
        assert_eq!(places[5], "tmp:a");
        // Those of the mesh itself are no client's.
        for own in ["#nws", "tmp:#map"] {
            assert_eq!(of_workspace(own), None);
            assert!(!places.iter().any(|place| place == own));
        }
        // In hexadecimal.
        let long = |first: u8, length| workspace(&vec![first; length]).is_some();
        assert!(long(b'x', 256) && long(b'#', 125) && !long(b'#', 126));
        places.sort();
        places.dedup();
        assert_eq!(places.len(), names.len());
        assert_eq!(workspace(b""), None);
        assert_eq!(workspace(&[b'x'; NAME_BYTES_MAX + 1]), None);
    }

    #[test]
    fn a_variable_s_name_comes_back_as_it_was() {
        for name in [&b"x"[..], b"", b"\xfe\xff", "hé".as_bytes()] {
            assert_eq!(shown(&variable(name).unwrap()), name);
        }
    }
}
