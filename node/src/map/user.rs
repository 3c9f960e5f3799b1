//! Users of this machine.

use std::path::PathBuf;

/// Where they are listed: name, password, user, group, comment, home and shell in a line.
const USERS: &str = "/etc/passwd";

/// Who runs programs, if not the node's own user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The number of the user.
    pub(crate) id: u32,
    /// The number of the group.
    pub(crate) group: u32,
    /// Name and home folder, if the machine lists them.
    pub(crate) known: Option<(String, PathBuf)>,
}

impl User {
    /// The user of this name, or of these numbers as `UID:GID`, who need not be listed.
    pub(crate) fn of_setting(text: &str) -> Option<Self> {
        Self::among(&std::fs::read_to_string(USERS).unwrap_or_default(), text)
    }

    fn among(users: &str, text: &str) -> Option<Self> {
        let mut users = users.lines().filter_map(Self::of_line);
        let numbers = text.split_once(':');
        let numbers = numbers.and_then(|(id, group)| Some((id.parse().ok()?, group.parse().ok()?)));
        let Some((id, group)) = numbers else {
            let named = |user: &Self| user.known.as_ref().is_some_and(|known| known.0 == text);
            return users.find(named);
        };
        let known = users.find(|user| user.id == id);
        let known = known.and_then(|user| user.known);
        Some(Self { id, group, known })
    }

    fn of_line(line: &str) -> Option<Self> {
        let [name, _, id, group, _, home, ..] = line.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(Self {
            id: id.parse().ok()?,
            group: group.parse().ok()?,
            known: Some((name.to_owned(), home.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_one_with_numbers_need_not_be_listed() {
        let users = "root:x:0:0:root:/root:/bin/sh\n# none\nann:x:7:8:,,:/home/ann:/bin/sh\n";
        let of = |text| User::among(users, text);
        let user = |id, group, known: Option<(&str, &str)>| User {
            id,
            group,
            known: known.map(|(name, home)| (name.to_owned(), home.into())),
        };
        let ann = Some(("ann", "/home/ann"));
        assert_eq!(of("ann"), Some(user(7, 8, ann)));
        assert_eq!(of("7:9"), Some(user(7, 9, ann)));
        assert_eq!(of("5:5"), Some(user(5, 5, None)));
        for none in ["", "bob", "7", "7:x", "# none"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
