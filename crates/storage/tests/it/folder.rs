//! Who may open a folder, and what is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cpe_storage::{OpenError, Storage, write_atomically};

use crate::{put, write};

#[test]
fn a_folder_in_use_is_refused_with_the_pid_of_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Storage::open(folder.path()).unwrap();
    let error = Storage::open(folder.path()).unwrap_err();
    let us = std::process::id();
    assert!(
        matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == us),
        "{error}"
    );
    assert!(
        error.to_string().contains(&format!("(pid {us})")),
        "{error}"
    );
    drop(opened);
    Storage::open(folder.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Storage::open(folder.path()).unwrap();
    write(&mut opened, put(b"a", b"1")).result.unwrap();
    drop(opened);
    fs::write(folder.path().join("format"), "cpe-storage 3\n").unwrap();
    let before = fs::read(folder.path().join("state.redb")).unwrap();
    let error = Storage::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Format { found, .. } if found == "cpe-storage 3"),
        "{error}"
    );
    assert_eq!(fs::read(folder.path().join("state.redb")).unwrap(), before);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_by_name() {
    // Permissions do not bind root, so a file in the way of the folder stands in for them.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Storage::open(&file.join("state")).unwrap_err();
    assert!(
        matches!(&error, OpenError::Io { path, .. } if path.starts_with(&file)),
        "{error}"
    );

    let read_only = folder.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
    match Storage::open(&read_only) {
        Err(error) => assert!(
            matches!(
                error,
                OpenError::Io {
                    action: "create",
                    ..
                }
            ),
            "{error}"
        ),
        Ok(_) => assert!(
            fs::write(read_only.join("probe"), "").is_ok(),
            "only root gets here"
        ),
    }
}

#[test]
fn a_read_only_file_system_is_refused_by_name() {
    let path = Path::new("/proc/cpe-storage-test");
    let error = Storage::open(path).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Io {
                action: "create the folder",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_file_is_replaced_whole_with_the_mode_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    write_atomically(&path, b"first", 0o600).unwrap();
    write_atomically(&path, b"second", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn a_replacement_that_fails_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taken");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("content"), "old").unwrap();
    write_atomically(&path, b"new", 0o600).unwrap_err();
    assert_eq!(fs::read(path.join("content")).unwrap(), b"old");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}
