//! Workspaces: which instance a name means, who owns it, how it comes and goes.
//!
//! A record is changed by exchanging it for what was read, so of several nodes that try at once one
//! succeeds and the others look again. Deleting takes three steps: the record says so, the
//! variables are deleted, the record goes. Whoever finds a deletion half done, because its node
//! died, completes it. A variable is deleted under the terms of its instance, so one who completes
//! late does nothing to the next instance.

use std::time::Duration;

use cpe_space::{Bound, Terms};
use cpe_tuple::{Tuple, Value};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::RngExt as _;
use tokio::time::Instant;

use crate::Gateway;
use crate::gateway::{DEFAULT, DEFAULT_INSTANCE, Opened};
use crate::limits::DECIDED_WITHIN;
use crate::names;
use crate::record::{Owner, RECORDS, Record};
use crate::spaces::{Answer, Listed, Spaces, Trouble};

/// How long the homes of a workspace may take to say how far they are, before one is made.
const SYNCED_WITHIN: Duration = Duration::from_secs(1);

/// How long an `open ws` waits for the end of another connection that owns the workspace. A client
/// that closes one connection and opens the next expects the end of the first to come first, and
/// with several nodes nobody else can see to that.
const LEAVING_WITHIN: Duration = Duration::from_millis(300);

/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often something is tried anew because others changed it meanwhile.
pub(crate) const TRIES_MAX: usize = 32;

/// Variables of a workspace deleted at a time.
const DELETIONS: usize = 64;

/// Digits of the width in a template.
const WIDTH_DIGITS_MAX: usize = 3;

/// Names tried for a temporary workspace.
const NAMES_MAX: usize = 16;

impl<S: Spaces> Gateway<S> {
    /// Opens a workspace: as owner if nobody owns it and an owner is given. One that had values of
    /// others before any client opened it is owned by nobody, and persistent.
    pub(crate) async fn open(
        &self,
        name: &[u8],
        claim: Option<(Owner, Vec<u8>)>,
        persistent: bool,
        create: bool,
    ) -> Result<Opened, Trouble> {
        if name == DEFAULT {
            let (instance, owns) = (DEFAULT_INSTANCE, false);
            return Ok(Opened { instance, owns });
        }
        let workspace = names::workspace(name).ok_or_else(bad_name)?;
        let patience = Instant::now() + LEAVING_WITHIN;
        for _ in 0..TRIES_MAX {
            let (held, mut record, claim) = match self.current(name).await? {
                Some((held, record)) => (Some(held), record, claim.as_ref()),
                None if create => {
                    // Its end would delete what others have stored there.
                    let free = claim.is_none() || !self.is_in_use(&workspace).await?;
                    let record = Record {
                        persistent: !free,
                        ..Record::new(name)
                    };
                    (None, record, claim.as_ref().filter(|_| free))
                }
                None => return Err(Trouble::Absent),
            };
            let before = record.clone();
            if let (Some((own, _)), Some(owner)) = (claim, record.owner)
                && owner != *own
                && !record.persistent
                && Instant::now() < patience
            {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            if let Some((owner, shown)) = claim {
                if record.owner.is_none() {
                    record.owner = Some(*owner);
                    record.shown.clone_from(shown);
                }
                record.persistent |= persistent;
            }
            let owns = claim.is_some_and(|(owner, _)| record.owner == Some(*owner));
            if held.is_some() && record == before {
                let instance = record.instance.unwrap_or_default();
                return Ok(Opened { instance, owns });
            }
            let decided = self.exchange(name, held, Some(&record)).await?;
            if let Some(index) = decided {
                let instance = record.instance.unwrap_or(index);
                return Ok(Opened { instance, owns });
            }
        }
        Err(contended())
    }

    /// Whether others than clients have stored to a workspace that has no record. A home that is
    /// without a leader for now must not keep workspaces from being made: what the replica of this
    /// node shows has to do then.
    async fn is_in_use(&self, workspace: &str) -> Result<bool, Trouble> {
        if let Err(trouble) = self.spaces.sync(Some(workspace), SYNCED_WITHIN).await {
            tracing::debug!(workspace, %trouble, "looks into the replica as it is");
        }
        let there = self.spaces.list(workspace).await?;
        let plain = |listed: &Listed| listed.instance.is_none() && listed.values > 0;
        Ok(there.iter().any(plain))
    }

    /// Makes a workspace with a new name, which nobody owns.
    pub(crate) async fn make_temporary(&self, template: &[u8]) -> Result<Vec<u8>, Trouble> {
        for _ in 0..NAMES_MAX {
            let name = fill(template, rand::rng().random::<u32>()).ok_or_else(|| {
                Trouble::Refused(
                    "a template has one %d (or %04d and the like), and no other %".to_owned(),
                )
            })?;
            names::workspace(&name).ok_or_else(bad_name)?;
            let record = Record::new(&name);
            if self.exchange(&name, None, Some(&record)).await?.is_some() {
                return Ok(name);
            }
        }
        Err(contended())
    }

    /// Deletes a workspace.
    pub(crate) async fn delete_workspace(&self, name: &[u8]) -> Result<(), Trouble> {
        if name == DEFAULT {
            let why = "the default workspace always exists".to_owned();
            return Err(Trouble::Refused(why));
        }
        for _ in 0..TRIES_MAX {
            let Some((held, record)) = self.current(name).await? else {
                return Err(Trouble::Absent);
            };
            if self.begin_deletion(held, record).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// The owner is gone: a workspace that is not persistent goes too.
    pub(crate) async fn disown(&self, name: &[u8], owner: Owner) -> Result<(), Trouble> {
        for _ in 0..TRIES_MAX {
            let Some((held, mut record)) = self.current(name).await? else {
                return Ok(());
            };
            if record.owner != Some(owner) {
                return Ok(());
            }
            let done = if record.persistent {
                record.owner = None;
                let decided = self.exchange(name, Some(held), Some(&record)).await?;
                decided.is_some()
            } else {
                self.begin_deletion(held, record).await?
            };
            if done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Whether the name still means this instance.
    pub(crate) async fn is_current(&self, name: &[u8], instance: u64) -> Result<bool, Trouble> {
        if name == DEFAULT {
            return Ok(true);
        }
        let held = self.read_record(name).await?;
        let record = held.as_ref().and_then(Record::from_tuple);
        Ok(record.is_some_and(|record| record.instance == Some(instance) && !record.deleting))
    }

    /// The record of a name, once no deletion is half done.
    async fn current(&self, name: &[u8]) -> Result<Option<(Tuple, Record)>, Trouble> {
        for _ in 0..TRIES_MAX {
            let Some(held) = self.read_record(name).await? else {
                return Ok(None);
            };
            let Some(record) = Record::from_tuple(&held) else {
                return Err(foreign(name));
            };
            if !record.deleting {
                return Ok(Some((held, record)));
            }
            self.complete_deletion(held, record).await?;
        }
        Err(contended())
    }

    async fn read_record(&self, name: &[u8]) -> Result<Option<Tuple>, Trouble> {
        let template = Record::template(name).ok_or_else(bad_name)?;
        self.spaces
            .read(RECORDS, template, Some(DECIDED_WITHIN))
            .await
    }

    /// Writes a record in the place of what it was; the index, or none if it is something else now.
    async fn exchange(
        &self,
        name: &[u8],
        held: Option<Tuple>,
        record: Option<&Record>,
    ) -> Result<Option<u64>, Trouble> {
        let act = Bound::Exchange {
            variable: names::text(name),
            expect: held,
            put: record
                .map(|record| record.to_tuple().ok_or_else(bad_name))
                .transpose()?,
        };
        let decided = self
            .spaces
            .act(RECORDS, Terms::default(), act, DECIDED_WITHIN);
        match decided.await?.0 {
            Answer::Exchanged(index) => Ok(Some(index)),
            Answer::Differs(Some(there)) if Record::from_tuple(&there).is_none() => {
                Err(foreign(name))
            }
            _ => Ok(None),
        }
    }

    /// False when somebody else has changed the record.
    async fn begin_deletion(&self, held: Tuple, mut record: Record) -> Result<bool, Trouble> {
        record.deleting = true;
        let name = record.name.clone();
        let decided = self.exchange(&name, Some(held), Some(&record)).await?;
        if decided.is_none() {
            return Ok(false);
        }
        if let Some(held) = self.read_record(&name).await?
            && let Some(now) = Record::from_tuple(&held)
            && now.deleting
            && now.instance == record.instance
        {
            self.complete_deletion(held, now).await?;
        }
        Ok(true)
    }

    /// Deletes the variables of an instance, and then its record.
    pub(crate) async fn complete_deletion(
        &self,
        held: Tuple,
        record: Record,
    ) -> Result<(), Trouble> {
        let workspace = names::workspace(&record.name).ok_or_else(bad_name)?;
        let terms = Terms {
            instance: record.instance.unwrap_or_default(),
            after: None,
        };
        // Nobody adds a variable to the instance any more: whoever did before this moment is
        // shown, and whoever does later looks at the record afterwards and takes it back.
        self.spaces.sync(Some(&workspace), DECIDED_WITHIN).await?;
        let there = self.spaces.list(&workspace).await?;
        // What is left of earlier instances goes too: nobody can reach it.
        let ours = there
            .into_iter()
            .filter(|listed| listed.instance.is_none_or(|it| it <= terms.instance));
        stream::iter(ours)
            .map(|listed| {
                let plain = listed.instance.is_none();
                let instance = listed.instance.unwrap_or(terms.instance);
                let terms = Terms { instance, ..terms };
                self.drop_variable(&workspace, terms, listed.name, plain)
            })
            .buffer_unordered(DELETIONS)
            .try_collect::<Vec<()>>()
            .await?;
        self.exchange(&record.name, Some(held), None).await?;
        Ok(())
    }

    async fn drop_variable(
        &self,
        workspace: &str,
        terms: Terms,
        variable: Value,
        plain: bool,
    ) -> Result<(), Trouble> {
        if plain {
            // Of nobody's instance: made a part of this one, unless it is part of a later one.
            let act = Bound::Declare {
                variable: variable.clone(),
                mode: None,
            };
            ignore_absent(self.spaces.act(workspace, terms, act, DECIDED_WITHIN).await)?;
        }
        let act = Bound::Drop { variable };
        ignore_absent(self.spaces.act(workspace, terms, act, DECIDED_WITHIN).await)
    }
}

fn ignore_absent<T>(done: Result<T, Trouble>) -> Result<(), Trouble> {
    match done {
        Ok(_) | Err(Trouble::Absent) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

fn bad_name() -> Trouble {
    let why = "a workspace's name has 1 to 256 bytes, or 125 if it is no UTF-8 or begins with # \
               or tmp:#";
    Trouble::Refused(why.to_owned())
}

/// Somebody has stored to the workspace of the records.
fn foreign(name: &[u8]) -> Trouble {
    let name = name.escape_ascii();
    let why = format!(
        "the record of {name} is of another form: a tuple in `{RECORDS}` that no node has put \
         there; fetch it away"
    );
    Trouble::Undecided(why)
}

pub(crate) fn contended() -> Trouble {
    Trouble::Undecided("others keep changing the same workspace; try again".to_owned())
}

/// Puts the number in the place of the one `%d`, which may have a width and a zero before it, as in
/// `%04d`; `%%` stands for a percent sign.
fn fill(template: &[u8], number: u32) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(template.len() + 10);
    let mut rest = template;
    let mut filled = false;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            name.push(*byte);
            continue;
        }
        if let Some(after) = rest.strip_prefix(b"%") {
            rest = after;
            name.push(b'%');
            continue;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (width, after) = rest.split_at(digits);
        rest = after.strip_prefix(b"d")?;
        if filled || width.len() > WIDTH_DIGITS_MAX {
            return None;
        }
        filled = true;
        let zeros = width.first() == Some(&b'0');
        let width = std::str::from_utf8(width).ok()?.parse().unwrap_or(0);
        let text = if zeros {
            format!("{number:0width$}")
        } else {
            format!("{number:width$}")
        };
        name.extend(text.into_bytes());
    }
    filled.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::Late;

    #[test]
    fn a_template_has_exactly_one_number() {
        let check = |template: &str, wanted: Option<&str>| {
            let filled = fill(template.as_bytes(), 7).map(|name| String::from_utf8(name).unwrap());
            assert_eq!(filled.as_deref(), wanted, "{template}");
        };
        check("__ws__%d", Some("__ws__7"));
        check("100%%_%d_x", Some("100%_7_x"));
        check("sleigh_ride_%04d", Some("sleigh_ride_0007"));
        check("%3d", Some("  7"));
        check("foo", None);
        check("%1234d", None);
        check("%d%d", None);
        check("%s", None);
        check("%d%", None);
    }

    fn claim(connection: u64) -> Option<(Owner, Vec<u8>)> {
        let node = crate::Who { node: 1, life: 1 };
        Some((Owner { node, connection }, b"a test".to_vec()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_owner_of_a_workspace_is_given_a_moment_to_leave_it() {
        let record = Record {
            instance: Some(7),
            owner: claim(1).map(|(owner, _)| owner),
            ..Record::new(b"w")
        };
        let spaces = Late::default();
        let reads = std::iter::repeat_with(|| Ok(record.to_tuple())).take(TRIES_MAX);
        spaces.reads.lock().unwrap().extend(reads);
        let gateway = Gateway::new(spaces);
        let begun = Instant::now();
        let opened = gateway.open(b"w", claim(2), false, true).await.unwrap();
        assert_eq!((opened.instance, opened.owns), (7, false));
        let waited = begun.elapsed();
        assert!(waited >= LEAVING_WITHIN && waited < LEAVING_WITHIN + 2 * LOOK_EVERY);
    }

    #[tokio::test]
    async fn a_workspace_that_others_stored_to_first_is_made_for_nobody() {
        let mut spaces = Late::default();
        spaces.later.push(Listed {
            name: Value::from("hello"),
            mode: None,
            instance: None,
            values: 1,
        });
        let gateway = Gateway::new(spaces);
        // The stand-in decides nothing: what was asked for is looked at.
        let opened = gateway.open(b"w", claim(1), false, true).await;
        assert_eq!(opened.err(), Some(contended()));
        let asked = gateway.spaces.acts.lock().unwrap().first().cloned();
        let Some(Bound::Exchange { put: Some(put), .. }) = asked else {
            panic!("{asked:?}");
        };
        let record = Record::from_tuple(&put).unwrap();
        assert_eq!((record.owner, record.persistent), (None, true));
    }
}
