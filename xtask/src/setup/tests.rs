//! Facts about set-up that need neither network nor compiler.

use super::*;

/// A folder of its own for one test, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cpe-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, relative: &str) -> PathBuf {
        let path = self.0.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_version_is_read_from_file_and_folder_names() {
    let folder = Folder::new("names");
    let version = |relative: &str| version_by_name(&folder.file(relative));
    assert_eq!(version("a/libclang-14.so.1"), Some(14));
    assert_eq!(version("a/libclang.so.15.0.7"), Some(15));
    assert_eq!(version("a/libclang-18.so.18"), Some(18));
    assert_eq!(version("llvm-15/lib/libclang.so"), Some(15));
    assert_eq!(version("llvm14/lib64/libclang.so.13"), Some(14));
    assert_eq!(version("llvm@15/lib/libclang.dylib"), Some(15));
    assert_eq!(version("a/libclang.so.13"), None);
    assert_eq!(version("llvm-14/lib/libclang-cpp.so.14"), None);
}

#[test]
fn version_fifteen_is_preferred_and_newer_ones_are_passed_over() {
    let folder = Folder::new("best");
    folder.file("one/libclang-18.so");
    let old = folder.file("one/libclang-14.so.1");
    let folders = [
        folder.0.join("one"),
        folder.0.join("two"),
        folder.0.join("absent"),
    ];
    assert_eq!(best_libclang(&folders), Some((14, old)));
    let new = folder.file("two/libclang-15.so.1");
    assert_eq!(best_libclang(&folders), Some((15, new)));
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_no_libclang() {
    let folder = Folder::new("link");
    let link = folder.0.join("libclang-15.so");
    std::os::unix::fs::symlink(folder.0.join("gone"), &link).unwrap();
    assert_eq!(version_by_name(&link), None);
}

#[test]
fn pip_is_told_every_hash() {
    let line = requirement_line();
    assert!(line.starts_with("libclang==15.0.6.1 --hash=sha256:"));
    assert_eq!(line.matches("sha256:").count(), WHEEL_HASHES.len());
    assert!(WHEEL_HASHES.iter().all(|hash| hash.len() == 64));
}

#[test]
fn a_clone_in_a_folder_with_spaces_works_and_one_with_quotes_is_refused() {
    let include = Path::new("/home of/cpe/.tools/libclang/include");
    let text = config_text(include, Some(Path::new("/usr/lib/libclang.so"))).unwrap();
    assert!(
        text.contains("\"'-I/home of/cpe/.tools/libclang/include'\""),
        "{text}"
    );
    assert!(
        text.contains(&setting("LIBCLANG_PATH", "/usr/lib/libclang.so")),
        "{text}"
    );
    assert!(
        !config_text(include, None)
            .unwrap()
            .contains("LIBCLANG_PATH")
    );
    assert!(config_text(Path::new("/it's/here"), None).is_err());
}

#[test]
fn only_headers_of_standard_c_are_copied() {
    for name in [
        "stddef.h",
        "stdint-gcc.h",
        "__stddef_size_t.h",
        "limits.h",
        "float.h",
    ] {
        assert!(is_basic_header(name), "{name}");
    }
    for name in ["avx512fintrin.h", "omp.h", "stdlib", "module.modulemap"] {
        assert!(!is_basic_header(name), "{name}");
    }
}
