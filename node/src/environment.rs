//! Variables of the environment that look like ours and are not: most likely a slip.

use crate::config::variables;

/// Known variables that are no settings of a node: the configuration's file, and what this
/// project's own tests and checks take.
const OTHERS: &[&str] = &[
    "CPE_CONFIG",
    "CPE_CI_ADVISORIES",
    "CPE_NWSCLIENT",
    "CPE_SEEDS",
    "CPE_SIM_EFFORT",
    "CPE_SIM_SEED",
    "CPE_SKIPPED_TESTS",
    "CPE_STORAGE_TEST_FOLDER",
];

/// Unknown variables named at most; nobody mistypes more.
const NAMED_MAX: usize = 16;

/// A line for each variable that begins with `CPE_` and means nothing.
pub(crate) fn complaints() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    about(names)
}

fn about(names: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<_> = variables().chain(OTHERS.iter().copied()).collect();
    names
        .filter(|name| name.starts_with("CPE_") && !known.contains(&name.as_str()))
        .take(NAMED_MAX)
        .map(|name| {
            let near = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, &name), known))
                .min()
                .filter(|(distance, _)| *distance <= 1 + name.len() / 6);
            match near {
                Some((_, near)) => {
                    format!("{name} means nothing to cpe: did you mean {near}?")
                }
                None => format!("{name} means nothing to cpe: `cpe config show` lists what does"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<String> {
        about(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn known_and_foreign_variables_are_left_alone() {
        assert_eq!(
            of(&["CPE_API", "CPE_CONFIG", "CPEX", "PATH"]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_slip_gets_the_nearest_name_and_anything_else_none() {
        let said = of(&["CPE_MESH_KEYS", "CPE_UTTERLY_DIFFERENT"]);
        assert!(said[0].ends_with("did you mean CPE_MESH_KEY?"), "{said:?}");
        assert!(said[1].contains("`cpe config show`"), "{said:?}");
    }
}
