//! Listings, to the byte.

use std::collections::BTreeMap;

use cpe_space::Mode;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::gateway::{DEFAULT, DEFAULT_INSTANCE, Session, Target};
use crate::limits::DECIDED_WITHIN;
use crate::record::{RECORDS, Record};
use crate::spaces::{Listed, Spaces, Trouble};
use crate::{Gateway, names};

/// Questions to the local replica that are under way at a time: one after the other, each would
/// wait for its turn among all that the node does.
const ASKED_AT_ONCE: usize = 64;

impl<S: Spaces> Gateway<S> {
    /// A line for each variable of an instance, without a newline after the last.
    pub(crate) async fn list_variables(&self, target: &Target) -> Result<Vec<u8>, Trouble> {
        if !self.is_current(&target.name, target.instance).await? {
            return Err(Trouble::Absent);
        }
        let workspace = Some(target.workspace.as_str());
        self.spaces.sync(workspace, DECIDED_WITHIN).await?;
        let variables = self.variables(&target.workspace, target.instance).await?;
        let lines = variables.into_iter().map(|(name, listed)| {
            let waits = self.waits.of(&target.workspace, &listed.name);
            let mode = match (listed.mode, listed.instance) {
                (Some(mode), _) => mode.to_string(),
                // Stored to by others, and fifo for everybody.
                (None, None) => Mode::Fifo.to_string(),
                (None, Some(_)) => "unknown".to_owned(),
            };
            let (values, fetchers, finders) = (listed.values, waits.fetchers, waits.finders);
            let rest = format!("\t{values}\t{fetchers}\t{finders}\t{mode}");
            [name, rest.into_bytes()].concat()
        });
        Ok(lines.collect::<Vec<_>>().join(&b'\n'))
    }

    /// A line for each workspace, each with a newline after it.
    pub(crate) async fn list_workspaces(
        &self,
        session: &Session,
        only: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Trouble> {
        match only.as_deref().map(names::workspace) {
            // One question for all of them: their records and variables may be at any home.
            None => self.spaces.sync(None, DECIDED_WITHIN).await?,
            // A home that has nothing to do with this one is not waited for.
            Some(Some(workspace)) => {
                let records = self.spaces.sync(Some(RECORDS), DECIDED_WITHIN);
                let variables = self.spaces.sync(Some(&workspace), DECIDED_WITHIN);
                tokio::try_join!(records, variables)?;
            }
            Some(None) => return Ok(Vec::new()),
        }
        let mut records = BTreeMap::new();
        let default = Record {
            shown: b"[system]".to_vec(),
            instance: Some(DEFAULT_INSTANCE),
            ..Record::new(DEFAULT)
        };
        records.insert(DEFAULT.to_vec(), default);
        // One that is being deleted is there until the last of it is gone.
        for record in self.records().await? {
            records.insert(record.name.clone(), record);
        }
        let wanted = records
            .into_iter()
            .filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
            .filter_map(|(name, record)| Some((names::workspace(&name)?, name, record)));
        let looked = stream::iter(wanted)
            .map(|(workspace, name, record)| async move {
                let instance = record.instance.unwrap_or_default();
                let variables = self.variables(&workspace, instance).await?;
                Ok::<_, Trouble>((name, record, variables))
            })
            .buffered(ASKED_AT_ONCE);
        let looked: Vec<_> = looked.try_collect().await?;
        let mut listing = Vec::new();
        for (name, record, variables) in looked {
            let instance = record.instance.unwrap_or_default();
            let own =
                session.owned.get(&name) == Some(&instance) && record.owner == Some(session.owner);
            let persistent = if record.persistent { "True" } else { "False" };
            let count = variables.len();
            let variables: Vec<Vec<u8>> = variables.into_keys().collect();
            listing.push(if own { b'>' } else { b' ' });
            listing.extend(&name);
            listing.push(b'\t');
            listing.extend(&record.shown);
            listing.extend(format!("\t{persistent}\t{count}\t").into_bytes());
            listing.extend(variables.join(&b','));
            listing.push(b'\n');
        }
        Ok(listing)
    }

    /// The records in the local replica.
    pub(crate) async fn records(&self) -> Result<Vec<Record>, Trouble> {
        let listed = self.spaces.list(RECORDS).await?;
        let templates = listed
            .into_iter()
            .filter_map(|listed| Record::template(&names::shown(&listed.name)));
        let held: Vec<_> = stream::iter(templates)
            .map(|template| self.spaces.read(RECORDS, template, None))
            .buffered(ASKED_AT_ONCE)
            .try_collect()
            .await?;
        let records = held.iter().flatten().filter_map(Record::from_tuple);
        Ok(records.collect())
    }

    /// The variables of an instance in the local replica, by name as clients see it: those declared
    /// in it, and those that others have stored to. What no client can name is left out: others may
    /// have stored to the number 17, which is not the variable `17`.
    async fn variables(
        &self,
        workspace: &str,
        instance: u64,
    ) -> Result<BTreeMap<Vec<u8>, Listed>, Trouble> {
        let all = self.spaces.list(workspace).await?;
        let ours = all.into_iter().filter(|listed| match listed.instance {
            Some(of) => of == instance,
            None => listed.values > 0 || listed.mode.is_some(),
        });
        Ok(ours
            .map(|listed| (names::shown(&listed.name), listed))
            .filter(|(name, listed)| names::variable(name).as_ref() == Some(&listed.name))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use cpe_tuple::Value;

    use super::*;
    use crate::connection::tests::Late;

    /// Stored by others: `cpe space store __default 17 x`.
    #[tokio::test]
    async fn a_variable_that_no_client_can_name_is_not_listed() {
        let mut spaces = Late::default();
        let names = [
            Value::from(17),
            Value::from("17"),
            Value::Symbol("x".to_owned()),
        ];
        for (name, values) in names.into_iter().zip(1..) {
            spaces.later.push(Listed {
                name,
                mode: None,
                instance: None,
                values,
            });
        }
        let gateway = Gateway::new(spaces);
        let target = Target {
            name: DEFAULT.to_vec(),
            workspace: "w".to_owned(),
            instance: DEFAULT_INSTANCE,
        };
        let listing = gateway.list_variables(&target).await.unwrap();
        assert_eq!(String::from_utf8(listing).unwrap(), "17\t2\t0\t0\tfifo");
    }

    #[tokio::test]
    async fn a_listing_of_one_workspace_asks_only_its_homes() {
        let gateway = Gateway::new(Late::default());
        let session = gateway.begin("a test".to_owned());
        let synced = || std::mem::take(&mut *gateway.spaces.synced.lock().unwrap());
        let only = Some(DEFAULT.to_vec());
        let listing = gateway.list_workspaces(&session, only).await.unwrap();
        assert!(listing.starts_with(b" __default\t[system]\t"));
        let workspace = names::workspace(DEFAULT).unwrap();
        assert_eq!(synced(), [Some(RECORDS.to_owned()), Some(workspace)]);
        let no_name = Some(Vec::new());
        let nothing = gateway.list_workspaces(&session, no_name).await.unwrap();
        assert!(nothing.is_empty() && synced().is_empty());
        gateway.list_workspaces(&session, None).await.unwrap();
        assert_eq!(synced(), [None]);
    }
}
