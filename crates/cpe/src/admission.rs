//! Who a node is and which mesh it belongs to: identity, key, certificate, and whether it founds.
//!
//! A data folder holds, next to the state:
//!
//! ```text
//! identity      the node's key pair, made at the first start
//! mesh.key      the mesh's key, where this node made it (or `cpe mesh init` did)
//! certificate   the mesh's word that this node belongs: enough to start without the key
//! ```

use std::path::{Path, PathBuf};

use cpe_network::{
    CERTIFICATE_MAX, Certificate, Identity, KeyFileError, MeshId, MeshKey, NAME_MAX,
};

use crate::StartError;
use crate::clock::since_1970;

/// Name of the identity's file in a data folder.
const IDENTITY_FILE: &str = "identity";
/// Name of the mesh key's file in a data folder.
const MESH_KEY_FILE: &str = "mesh.key";
/// Name of the certificate's file in a data folder.
const CERTIFICATE_FILE: &str = "certificate";

/// Seconds a certificate is valid that a node makes for itself: ten years. It holds the key, so
/// nothing is gained by a shorter time.
const VALID_SECS: u64 = 10 * 366 * 24 * 3600;

/// How a node means to come into a mesh.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) folder: Option<&'a Path>,
    pub(crate) mesh_key: Option<&'a Path>,
    pub(crate) name: Option<&'a str>,
    /// It has bootstrap addresses, or looks around by multicast.
    pub(crate) seeks: bool,
    /// It has bootstrap addresses.
    pub(crate) bootstrap: bool,
}

/// What a node shows at the door.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) identity: Identity,
    pub(crate) certificate: Certificate,
    pub(crate) name: String,
    /// Where the key of the mesh lies, if this node has it in a file.
    pub(crate) key: Option<PathBuf>,
    /// Whether it founds the mesh unless it has state of one.
    pub(crate) may_found: bool,
}

impl Admission {
    pub(crate) fn mesh_id(&self) -> MeshId {
        self.certificate.mesh.mesh_id()
    }
}

/// Reads or makes what a node needs to be admitted.
///
/// A node founds a mesh if it made the key just now, or if it has the key and seeks nobody: no
/// bootstrap addresses and no multicast. Otherwise it joins, and keeps trying.
pub(crate) fn admit(wish: &Wish<'_>) -> Result<Admission, StartError> {
    let identity = match wish.folder {
        Some(folder) => Identity::load_or_create(&folder.join(IDENTITY_FILE))?,
        None => Identity::ephemeral(),
    };
    let name = match wish.name {
        Some(name) => name.to_owned(),
        None => default_name(&identity),
    };
    check_name(&name)?;
    let stored = match wish.folder {
        Some(folder) => stored_certificate(folder, &identity)?,
        None => None,
    };
    let own_file = wish.folder.map(|folder| folder.join(MESH_KEY_FILE));
    let (key, path, fresh) = match (wish.mesh_key, &own_file) {
        (Some(path), _) => (Some(MeshKey::load(path)?), Some(path.to_owned()), false),
        (None, Some(path)) => match load_if_there(path)? {
            Some(key) => (Some(key), Some(path.clone()), false),
            None if stored.is_some() => (None, None, false),
            None => (Some(make(wish, Some(path))?), Some(path.clone()), true),
        },
        (None, None) => (Some(make(wish, None)?), None, true),
    };
    let certificate = match (key, stored) {
        (Some(key), Some(stored)) if stored.mesh != key.public() => {
            return Err(StartError::OtherMesh {
                folder: wish.folder.map(Path::to_owned).unwrap_or_default(),
                stored: stored.mesh.mesh_id().to_string(),
                given: key.mesh_id().to_string(),
            });
        }
        (Some(key), stored) => {
            let now = since_1970().as_secs();
            match stored {
                Some(stored)
                    if stored.name == name && stored.verify(&key.public(), now).is_ok() =>
                {
                    stored
                }
                _ => certify(&key, &identity, &name, wish.folder, now)?,
            }
        }
        (None, Some(stored)) => stored,
        // A key was made above when there was neither.
        (None, None) => return Err(StartError::NoMeshKey),
    };
    let may_found = fresh || (path.is_some() && !wish.seeks);
    Ok(Admission {
        identity,
        certificate,
        name,
        key: path,
        may_found,
    })
}

/// Makes the key of a new mesh.
fn make(wish: &Wish<'_>, path: Option<&Path>) -> Result<MeshKey, StartError> {
    if wish.bootstrap {
        return Err(StartError::NoMeshKey);
    }
    let key = MeshKey::generate();
    if let Some(path) = path {
        key.save(path)?;
    }
    Ok(key)
}

fn load_if_there(path: &Path) -> Result<Option<MeshKey>, StartError> {
    match MeshKey::load(path) {
        Ok(key) => Ok(Some(key)),
        Err(KeyFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn certify(
    key: &MeshKey,
    identity: &Identity,
    name: &str,
    folder: Option<&Path>,
    now: u64,
) -> Result<Certificate, StartError> {
    let roles: [&str; 0] = [];
    let until = now.saturating_add(VALID_SECS);
    let certificate = key
        .certify(identity.peer_id(), name, roles, now, until)
        .map_err(|error| StartError::Setting {
            what: "name",
            value: name.to_owned(),
            why: error.to_string(),
        })?;
    if let Some(folder) = folder {
        let path = folder.join(CERTIFICATE_FILE);
        cpe_storage::write_atomically(&path, &certificate.encode(), 0o644)
            .map_err(file("write", &path))?;
    }
    Ok(certificate)
}

fn stored_certificate(
    folder: &Path,
    identity: &Identity,
) -> Result<Option<Certificate>, StartError> {
    let path = folder.join(CERTIFICATE_FILE);
    let length = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file("read", &path)(error)),
    };
    if length > CERTIFICATE_MAX as u64 {
        return Err(file("read", &path)(format!(
            "{length} bytes, no certificate has more than {CERTIFICATE_MAX}"
        )));
    }
    let bytes = std::fs::read(&path).map_err(file("read", &path))?;
    let certificate = Certificate::decode(&bytes).map_err(file("read", &path))?;
    if certificate.peer != identity.peer_id() {
        return Err(file("use", &path)(format!(
            "it belongs to {}, this folder's identity is {}: remove it, or bring back its identity",
            certificate.peer,
            identity.peer_id()
        )));
    }
    Ok(Some(certificate))
}

pub(crate) fn file<E: std::fmt::Display>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> StartError {
    let path = path.to_owned();
    move |why| StartError::File {
        action,
        path,
        why: why.to_string(),
    }
}

/// A name for a node that was given none: told apart at a glance, the same at every start.
fn default_name(identity: &Identity) -> String {
    let id = identity.node_id().to_string();
    format!("node-{}", id.get(..6).unwrap_or(&id))
}

fn check_name(name: &str) -> Result<(), StartError> {
    let why = if name.is_empty() {
        "a node has a name".to_owned()
    } else if name.len() > NAME_MAX {
        format!("a name has at most {NAME_MAX} bytes")
    } else if name.chars().any(char::is_control) {
        "a name has no control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(StartError::Setting {
        what: "name",
        value: name.chars().take(NAME_MAX).collect(),
        why,
    })
}
