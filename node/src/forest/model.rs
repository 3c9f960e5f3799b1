//! Models with names, in the space or in files.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cpe::{Field, Kind, Value};
use cpe_forest::limits::MAX_FOREST_BYTES;
use cpe_forest::{Forest, Manifest, ModelCard};
use cpe_tuple::codec;
use rand::RngExt as _;
use serde::Serialize;
use tokio::sync::Mutex;

use super::WORKSPACE;
use super::blob::{self, template, tuple};
use super::job::hex;
use crate::exit::{About, Fault, Status};
use crate::remote::Space;

/// Signs of a model's name at most.
const NAME_MAX: usize = 128;

/// How long to wait for a model that may be on its way to this replica.
const MODEL_WITHIN: Duration = Duration::from_secs(2);

/// How long a part of a model may take to come that can as well be grown anew.
const FIND_WITHIN: Duration = Duration::from_secs(5);

/// What to do about a model of which parts are missing.
pub(crate) const AGAIN: &str = "if no node that has what is missing comes back, train it again \
                                under this name";

/// Where a model is: what a user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the space.
    Mesh(String),
    /// In a file.
    File(PathBuf),
}

impl Place {
    /// A bare name is in the mesh; anything with a dot or a slash is a file.
    pub(crate) fn of(text: &str) -> Self {
        if text.contains(['/', '.']) {
            Self::File(PathBuf::from(text))
        } else {
            Self::Mesh(text.to_owned())
        }
    }
}

/// Bytes of a model's details (its card, its manifest and the places of its groves) up to which
/// they are in its tuple. More lie beside its bytes: a text column of many values has them all in
/// the manifest.
const DETAILS_INLINE_MAX: usize = 1 << 20;

/// Bytes of details at most: no column has more values than rows, and no forest more groves.
const DETAILS_MAX: usize = 1 << 28;

/// What the space says of a model.
#[derive(Clone, Debug)]
struct Record {
    /// The forest's hash, in hexadecimal.
    hash: String,
    /// Where its bytes lie: each that is put there has a place of its own, so that a reader never
    /// mixes two.
    blob: String,
    /// How many bytes.
    bytes: usize,
    /// Its card as JSON.
    card: String,
    /// Its manifest as bytes, and where each grove begins among the model's: so that groves can be
    /// read one by one. None of a model that an older version put there.
    placed: Option<(Vec<u8>, Vec<usize>)>,
}

/// A model of which one grove can be read without the others.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// What it is called.
    pub(crate) name: String,
    /// What is known of it besides its trees.
    pub(crate) manifest: Manifest,
    /// Where its bytes lie.
    pub(crate) blob: String,
    /// Where its groves are among them.
    pub(crate) groves: Vec<GrovePlace>,
}

/// Where a grove is.
#[derive(Clone, Debug)]
pub(crate) struct GrovePlace {
    /// Which.
    pub(crate) index: u32,
    /// Where it begins.
    pub(crate) at: usize,
    /// How many bytes.
    pub(crate) bytes: usize,
    /// Their hash, in hexadecimal.
    pub(crate) hash: String,
}

/// Models a node keeps for the next question.
const KEPT_MAX: usize = 16;

/// Encoded bytes of the models a node keeps, unless it is one alone that has more. In memory a
/// model takes up to 14 times as many.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A model that was read.
#[derive(Debug)]
struct Held<T> {
    name: String,
    /// The model's hash, in hexadecimal.
    hash: String,
    bytes: usize,
    what: Arc<T>,
}

/// What was read, the last one asked for first.
#[derive(Debug)]
struct Kept<T>(VecDeque<Held<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Kept<T> {
    /// The model of this name, if it is still this one.
    fn get(&mut self, name: &str, hash: &str) -> Option<Arc<T>> {
        let place = self.0.iter().position(|held| held.name == name)?;
        let held = self.0.remove(place).filter(|held| held.hash == hash)?;
        let what = Arc::clone(&held.what);
        self.0.push_front(held);
        Some(what)
    }

    /// Keeps it, in place of those that were not asked for longest.
    fn put(&mut self, held: Held<T>) {
        self.0.retain(|other| other.name != held.name);
        self.0.push_front(held);
        let bytes = |kept: &VecDeque<Held<T>>| kept.iter().map(|held| held.bytes).sum::<usize>();
        while self.0.len() > 1 && (self.0.len() > KEPT_MAX || bytes(&self.0) > KEPT_BYTES_MAX) {
            self.0.pop_back();
        }
    }
}

/// The models a node has read, for its actors. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Models {
    kept: Arc<Mutex<Kept<Forest>>>,
}

impl Models {
    /// The model of this name as the space has it now; a part of it may take `within` to come.
    /// Asking again costs a look at the replica.
    ///
    /// # Errors
    /// As [`get`].
    pub(crate) async fn get(
        &self,
        space: &impl Space,
        name: &str,
        within: Duration,
    ) -> Result<Arc<Forest>, Fault> {
        let record = known(space, name, within).await?;
        if let Some(forest) = self.kept.lock().await.get(name, &record.hash) {
            return Ok(forest);
        }
        let (record, forest) = fetch_now(space, name, record, within).await?;
        let forest = Arc::new(forest);
        self.kept.lock().await.put(Held {
            name: name.to_owned(),
            hash: record.hash,
            bytes: record.bytes,
            what: Arc::clone(&forest),
        });
        Ok(forest)
    }
}

/// Whether there is a model of this name.
///
/// # Errors
/// When there is none.
pub(crate) async fn is_there(space: &impl Space, name: &str) -> Result<(), Fault> {
    known(space, name, MODEL_WITHIN).await.map(drop)
}

/// What a list of models says of one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listed {
    name: String,
    target: String,
    trees: u32,
    rows: usize,
    bytes: usize,
    forest: String,
}

/// The models of the mesh, by name.
///
/// # Errors
/// When the space cannot be reached.
pub(crate) async fn list(space: &impl Space) -> Result<Vec<Listed>, Fault> {
    let variables = space.variables(WORKSPACE).await?;
    let mut listed = Vec::new();
    for name in variables.iter().filter_map(|it| it.strip_prefix(NAMED)) {
        let found = record(space, name, Duration::ZERO, FIND_WITHIN);
        let Some(record) = found.await? else {
            continue;
        };
        let Ok(card) = serde_json::from_str::<ModelCard>(&record.card) else {
            continue;
        };
        listed.push(Listed {
            name: name.to_owned(),
            target: card.target,
            trees: card.spec.trees,
            rows: card.rows,
            bytes: record.bytes,
            forest: record.hash,
        });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// What the variable of a model begins with.
const NAMED: &str = "model ";

fn variable(name: &str) -> String {
    format!("{NAMED}{name}")
}

/// A place for the bytes of a model, where nobody has put any. No model's own variable begins so,
/// whatever its name is.
fn new_blob() -> String {
    format!("bytes {:032x}", rand::rng().random::<u128>())
}

/// Where the details of a model are that has many.
fn details_name(blob: &str) -> String {
    format!("{blob} details")
}

/// A model as it is put into the space.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The forest's hash, in hexadecimal.
    pub(crate) hash: String,
    bytes: Vec<u8>,
    /// What the model's tuple says besides: its card, its manifest, and where its groves begin; or
    /// how many bytes these are, if they are to lie apart.
    details: Entry,
    apart: Option<Vec<u8>>,
}

/// Packs a model: as long as encoding it three times.
///
/// # Errors
/// When it is too large.
pub(crate) fn pack(forest: &Forest, card: &ModelCard) -> Result<Packed, Fault> {
    let bytes = forest.encode().about("cannot encode the forest")?;
    let places = forest.places(&bytes).unwrap_or_default();
    let places = places
        .iter()
        .map(|(at, _)| Value::Int(i64::try_from(*at).unwrap_or(i64::MAX)));
    let manifest = codec::encode(forest.manifest()).about("cannot encode the manifest")?;
    let card = serde_json::to_string(card).about("cannot write the model card")?;
    let details = named([
        ("card", Value::from(card)),
        ("manifest", Value::Bytes(manifest)),
        ("groves", Value::List(places.collect())),
    ]);
    let encoded = codec::encode(&details).about("cannot encode the model's details")?;
    let small = encoded.len() <= DETAILS_INLINE_MAX;
    let length = i64::try_from(encoded.len()).unwrap_or(i64::MAX);
    Ok(Packed {
        hash: hex(&forest.hash()),
        bytes,
        details: match small {
            true => details,
            false => named([("details", Value::Int(length))]),
        },
        apart: (!small).then_some(encoded),
    })
}

fn named<const N: usize>(entries: [(&str, Value); N]) -> Entry {
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Puts a model into the space, in place of the one of that name.
///
/// # Errors
/// When it is too large, or its home cannot be reached.
pub(crate) async fn put(
    space: &impl Space,
    name: &str,
    forest: &Forest,
    card: &ModelCard,
) -> Result<(), Fault> {
    put_packed(space, name, &pack(forest, card)?).await
}

/// As [`put`], of a model that is packed already.
///
/// # Errors
/// When its home cannot be reached.
pub(crate) async fn put_packed(
    space: &impl Space,
    name: &str,
    packed: &Packed,
) -> Result<(), Fault> {
    let hash = &packed.hash;
    check_name_itself(name)?;
    let old = entry(space, name, Duration::ZERO).await?;
    let blob = new_blob();
    blob::put(space, &blob, &packed.bytes).await?;
    if let Some(details) = &packed.apart {
        blob::put(space, &details_name(&blob), details).await?;
    }
    let length = i64::try_from(packed.bytes.len()).unwrap_or(i64::MAX);
    let mut map = packed.details.clone();
    map.extend(named([
        ("hash", Value::from(hash.as_str())),
        ("at", Value::from(blob)),
        ("bytes", Value::Int(length)),
    ]));
    if old.is_none() {
        space.declare_single(WORKSPACE, &variable(name)).await?;
    }
    space
        .out(
            WORKSPACE,
            tuple(vec![Value::from(variable(name)), Value::Map(map)])?,
        )
        .await?;
    if let Some(old) = old.as_ref().and_then(blob_of) {
        // Best effort: old bytes only take room.
        for old in [old, &details_name(old)] {
            let _ = space.delete(WORKSPACE, old).await;
        }
    }
    Ok(())
}

/// Reads a model from the space; a part of it may take `within` to come.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) async fn get(
    space: &impl Space,
    name: &str,
    within: Duration,
) -> Result<(Forest, ModelCard), Fault> {
    let record = known(space, name, within).await?;
    let (record, forest) = fetch_now(space, name, record, within).await?;
    let card = serde_json::from_str(&record.card).unwrap_or_else(|_| ModelCard::new(&forest));
    Ok((forest, card))
}

/// The card of a model.
///
/// # Errors
/// When there is no such model, or it cannot be read.
pub(crate) async fn card(
    space: &impl Space,
    name: &str,
    within: Duration,
) -> Result<ModelCard, Fault> {
    let record = known(space, name, within).await?;
    match serde_json::from_str(&record.card) {
        Ok(card) => Ok(card),
        Err(_) => fetch(space, name, &record, within)
            .await
            .map(|it| ModelCard::new(&it)),
    }
}

/// Where the groves of a model are, to read them one by one.
///
/// # Errors
/// When there is no such model, or an older version put it there.
pub(crate) async fn placed(
    space: &impl Space,
    name: &str,
    within: Duration,
) -> Result<Placed, Fault> {
    let record = known(space, name, within).await?;
    let old = || {
        Fault::failed(format!("model `{name}` does not say where its groves are"))
            .next("train it again under this name: that keeps its groves")
    };
    let card: ModelCard = serde_json::from_str(&record.card).map_err(|_| old())?;
    let (manifest, places) = record.placed.ok_or_else(old)?;
    let manifest = codec::decode(&manifest, manifest.len()).about("its manifest cannot be read")?;
    if places.len() != card.groves.len() {
        return Err(old());
    }
    let groves = card
        .groves
        .into_iter()
        .zip(places)
        .map(|(grove, at)| GrovePlace {
            index: grove.index,
            at,
            bytes: grove.bytes,
            hash: grove.hash,
        });
    Ok(Placed {
        name: name.to_owned(),
        manifest,
        blob: record.blob,
        groves: groves.collect(),
    })
}

/// Removes a model, and says whether there was one.
///
/// # Errors
/// When its home cannot be reached.
pub(crate) async fn delete(space: &impl Space, name: &str) -> Result<bool, Fault> {
    let Some(old) = entry(space, name, Duration::ZERO).await? else {
        return Ok(false);
    };
    space.delete(WORKSPACE, &variable(name)).await?;
    if let Some(blob) = blob_of(&old) {
        for gone in [blob, &details_name(blob)] {
            space.delete(WORKSPACE, gone).await?;
        }
    }
    Ok(true)
}

/// A model, if there is one of this name that can be read.
///
/// # Errors
/// When the space cannot be reached.
pub(crate) async fn find(space: &impl Space, name: &str) -> Result<Option<Forest>, Fault> {
    let Some(entry) = entry(space, name, Duration::ZERO).await? else {
        return Ok(None);
    };
    let found = async {
        match read(space, name, &entry, FIND_WITHIN).await? {
            Some(record) => fetch(space, name, &record, FIND_WITHIN).await.map(Some),
            None => Ok(None),
        }
    };
    match found.await {
        Ok(forest) => Ok(forest),
        Err(fault) => {
            tracing::warn!(name, %fault, "the model of this name is taken for none");
            Ok(None)
        }
    }
}

async fn known(space: &impl Space, name: &str, within: Duration) -> Result<Record, Fault> {
    let found = record(space, name, MODEL_WITHIN.min(within), within).await?;
    found.ok_or_else(|| {
        Fault::failed(format!("no model is called `{name}` in the mesh"))
            .next("train one with `cpe forest train ... --out NAME`; a file needs a dot or a slash")
    })
}

/// As [`fetch`]; a model that was replaced while it was read is read as it is now.
async fn fetch_now(
    space: &impl Space,
    name: &str,
    record: Record,
    within: Duration,
) -> Result<(Record, Forest), Fault> {
    match fetch(space, name, &record, within).await {
        Ok(forest) => Ok((record, forest)),
        Err(fault) => {
            let now = known(space, name, within).await?;
            if now.blob == record.blob {
                return Err(fault);
            }
            let forest = fetch(space, name, &now, within).await?;
            Ok((now, forest))
        }
    }
}

async fn fetch(
    space: &impl Space,
    name: &str,
    record: &Record,
    within: Duration,
) -> Result<Forest, Fault> {
    let bytes = blob::read(space, &record.blob, record.bytes, MAX_FOREST_BYTES, within).await;
    let bytes = bytes.map_err(|fault| not_whole(name, fault))?;
    // Perhaps seconds of arithmetic: off the threads that move messages.
    let decoding = tokio::task::spawn_blocking(move || Forest::decode(&bytes));
    let decoded = decoding.await.about("reading a model failed")?;
    let forest = decoded.about(format!("model `{name}` cannot be read"))?;
    if hex(&forest.hash()) == record.hash {
        return Ok(forest);
    }
    Err(
        Fault::failed(format!("the bytes of model `{name}` are those of another"))
            .next("train it again under this name"),
    )
}

/// Says of which model something is missing, and what to do.
fn not_whole(name: &str, fault: Fault) -> Fault {
    if fault.status != Status::Unavailable {
        return fault;
    }
    Fault::unavailable(format!("model `{name}` is not there as a whole: {fault}")).next(AGAIN)
}

/// What the space says of a model.
type Entry = BTreeMap<String, Value>;

/// Where a model's bytes lie, if its entry says so.
fn blob_of(entry: &Entry) -> Option<&str> {
    entry.get("at")?.as_str()
}

async fn entry(space: &impl Space, name: &str, within: Duration) -> Result<Option<Entry>, Fault> {
    let template = template(vec![
        Field::Actual(Value::from(variable(name))),
        Field::Typed(Kind::Map),
    ])?;
    let found = space.rd(WORKSPACE, template, within).await?;
    Ok(found.and_then(|found| found.fields().get(1)?.as_map().cloned()))
}

/// What the space says of a model within that time; a part of it may take `parts_within` to come.
async fn record(
    space: &impl Space,
    name: &str,
    within: Duration,
    parts_within: Duration,
) -> Result<Option<Record>, Fault> {
    match entry(space, name, within).await? {
        Some(entry) => read(space, name, &entry, parts_within).await,
        None => Ok(None),
    }
}

async fn read(
    space: &impl Space,
    name: &str,
    entry: &Entry,
    within: Duration,
) -> Result<Option<Record>, Fault> {
    let Some(length) = entry.get("details").and_then(Value::as_int) else {
        return Ok(record_of(entry, entry));
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some(blob) = blob_of(entry) else {
        return Ok(None);
    };
    let blob = details_name(blob);
    let bytes = blob::read(space, &blob, length, DETAILS_MAX, within).await;
    let bytes = bytes.map_err(|fault| not_whole(name, fault))?;
    let details = codec::decode::<Entry>(&bytes, DETAILS_MAX);
    let details = details.about(format!("the details of model `{name}` cannot be read"))?;
    Ok(record_of(entry, &details))
}

fn record_of(map: &Entry, details: &Entry) -> Option<Record> {
    Some(Record {
        hash: map.get("hash")?.as_str()?.to_owned(),
        blob: blob_of(map)?.to_owned(),
        bytes: usize::try_from(map.get("bytes")?.as_int()?).ok()?,
        card: details.get("card")?.as_str()?.to_owned(),
        placed: placed_of(details),
    })
}

fn placed_of(map: &Entry) -> Option<(Vec<u8>, Vec<usize>)> {
    let manifest = map.get("manifest")?.as_bytes()?.to_vec();
    let places = map.get("groves")?.as_list()?.iter();
    let place = |place: &Value| usize::try_from(place.as_int()?).ok();
    Some((manifest, places.map(place).collect::<Option<_>>()?))
}

/// Reads a model from a file.
///
/// # Errors
/// When the file cannot be read or holds no model.
pub(crate) fn read_file(path: &Path) -> Result<Forest, Fault> {
    let shown = path.display();
    let about = std::fs::metadata(path).about(format!("cannot read the model {shown}"))?;
    if about.len() > MAX_FOREST_BYTES as u64 {
        return Err(Fault::failed(format!(
            "{shown} is larger than a model may be"
        )));
    }
    let bytes = std::fs::read(path).about(format!("cannot read the model {shown}"))?;
    Forest::decode(&bytes).about(format!("{shown} is no model"))
}

/// Makes sure that a model can be put into the space under this name once there is one.
///
/// # Errors
/// When the space cannot be reached, and for a name that no model can have.
pub(crate) async fn check_name(space: &impl Space, name: &str) -> Result<(), Fault> {
    check_name_itself(name)?;
    entry(space, name, Duration::ZERO).await.map(drop)
}

/// Makes sure that a model may have this name.
///
/// # Errors
/// When it is empty, too long, or of signs that nobody could type.
pub(crate) fn check_name_itself(name: &str) -> Result<(), Fault> {
    let letters = name.chars().count();
    if (1..=NAME_MAX).contains(&letters) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_MAX).collect();
    Err(Fault::usage(format!(
        "{shown:?} is no name of a model: 1 to {NAME_MAX} signs that can be printed"
    )))
}

/// Makes sure that a model can be written to a file once there is one.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_place(path: &Path) -> Result<(), Fault> {
    let partial = partial(path);
    let about = format!("cannot write {}", path.display());
    if path.is_dir() {
        return Err(Fault::failed(format!("{about}: it is a folder")));
    }
    std::fs::File::create(&partial).about(&about)?;
    std::fs::remove_file(&partial).about(about)
}

fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    PathBuf::from(partial)
}

/// Writes a model to a file: a whole one or none.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_file(path: &Path, forest: &Forest) -> Result<(), Fault> {
    let bytes = forest.encode().about("cannot encode the forest")?;
    let about = format!("cannot write {}", path.display());
    let partial = partial(path);
    std::fs::write(&partial, bytes).about(&about)?;
    std::fs::rename(&partial, path).about(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, hash: &str, bytes: usize) -> Held<()> {
        Held {
            name: name.to_owned(),
            hash: hash.to_owned(),
            bytes,
            what: Arc::new(()),
        }
    }

    fn names(kept: &Kept<()>) -> Vec<&str> {
        kept.0.iter().map(|held| held.name.as_str()).collect()
    }

    #[test]
    fn the_models_kept_are_the_last_ones_asked_for() {
        let mut kept = Kept::default();
        for n in 0..KEPT_MAX {
            kept.put(held(&format!("m{n}"), "a", 1));
        }
        assert!(kept.get("m0", "a").is_some());
        kept.put(held("new", "a", 1));
        assert!(kept.get("m0", "a").is_some() && kept.get("m1", "a").is_none());
        assert_eq!(kept.0.len(), KEPT_MAX);
        // Another model of the same name is another one.
        assert!(kept.get("m0", "b").is_none());
        assert!(kept.get("m0", "a").is_none());
    }

    #[test]
    fn large_models_are_kept_one_at_a_time() {
        let mut kept = Kept::default();
        kept.put(held("a", "1", KEPT_BYTES_MAX / 2));
        kept.put(held("b", "1", KEPT_BYTES_MAX / 2));
        assert_eq!(names(&kept), ["b", "a"]);
        kept.put(held("c", "1", 1));
        assert_eq!(names(&kept), ["c", "b"]);
        kept.put(held("huge", "1", 3 * KEPT_BYTES_MAX));
        assert_eq!(names(&kept), ["huge"]);
        kept.put(held("huge", "2", 2));
        assert_eq!(names(&kept), ["huge"]);
        assert!(kept.get("huge", "2").is_some());
    }
}
