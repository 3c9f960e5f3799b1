//! `cargo xtask setup`: the one thing the build needs that cargo does not bring, libclang.
//!
//! `clips-sys` generates its bindings with bindgen 0.53, which loads libclang and panics with
//! version 16 or newer. So a distribution's newest clang is of no use, and a machine without any
//! is common. What this does, in this order:
//!
//! 1. The user's own `LIBCLANG_PATH` wins, whatever it is.
//! 2. A libclang that an earlier run put into `.tools/libclang/native` stays.
//! 3. A libclang 14 or 15 of the system is used where it is.
//! 4. Else the `libclang` wheel of Python's package index is downloaded, checked against the hashes
//!    below and unpacked into that folder. It needs no root and nothing outside the clone changes.
//!
//! libclang alone lacks the compiler's own headers (`stddef.h` and the like), so those of the C
//! compiler are copied beside it. `.tools/cargo.toml`, which `.cargo/config.toml` includes, points
//! the build at both, and plain `cargo build` works from then on.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{answers, capture, run, say};
use crate::workspace::Root;

/// The newest release of the wheel that bindgen 0.53 can use.
const WHEEL: &str = "libclang==15.0.6.1";

/// SHA-256 of the wheel for each platform we support; pip refuses any other file.
const WHEEL_HASHES: [&str; 5] = [
    // Linux x86-64, glibc
    "69b01a23ab543908a661532595daa23cf88bd96d80e41f58ba0eaa6a378fe0d8",
    // Linux x86-64, musl
    "aaebb6aa1db73bac3a0ac41e57ef78743079eb68728adbf7e80ee917ae171529",
    // Linux aarch64, glibc
    "4a5188184b937132c198ee9de9a8a2316d5fdd1a825398d5ad1a8f5e06f9b40e",
    // macOS x86-64
    "8621795e07b87e17fc7aac9f071bc7fe6b52ed6110c0a96a9975d8113c8c2527",
    // macOS arm64
    "0bf192c48a8d2992fc5034393ddc99e772ac30e105df84927d62fc88ef8a659f",
];

/// Major versions that bindgen 0.53 works with, the preferred one first.
const SUITABLE: [u32; 2] = [15, 14];

/// What to do when nothing else worked.
const BY_HAND: &str = "install libclang 15 or 14 (Debian, Ubuntu: `apt install libclang-15-dev` or \
     `libclang-14-dev`; Fedora: `dnf install clang15-libs`; macOS: `brew install llvm@15`) and run \
     `cargo xtask setup` again, or set LIBCLANG_PATH to the folder that holds it";

/// The folders and files that setup owns, all below `.tools`, which git ignores.
struct Places {
    tools: PathBuf,
    /// Holds libclang, if it was downloaded.
    native: PathBuf,
    /// Holds copies of the compiler's headers.
    include: PathBuf,
    /// Where the two are, for cargo; `.cargo/config.toml` includes it.
    config: PathBuf,
}

impl Places {
    fn below(root: &Path) -> Self {
        let tools = root.join(".tools");
        Self {
            native: tools.join("libclang/native"),
            include: tools.join("libclang/include"),
            config: tools.join("cargo.toml"),
            tools,
        }
    }

    /// The library under the name that clang-sys looks for.
    fn library(&self) -> PathBuf {
        self.native.join(library_name())
    }
}

/// What set-up tells cargo, and cargo the build.
const LIBCLANG_PATH: &str = "LIBCLANG_PATH";
const CLANG_ARGS: &str = "BINDGEN_EXTRA_CLANG_ARGS";

/// The variables that this process has from an earlier set-up by way of cargo. What else is set is
/// the user's own.
pub(crate) fn configured(root: &Path) -> Vec<&'static str> {
    let text = fs::read_to_string(Places::below(root).config).unwrap_or_default();
    let from_text =
        |name: &&str| std::env::var(name).is_ok_and(|value| text.contains(&setting(name, &value)));
    [LIBCLANG_PATH, CLANG_ARGS]
        .into_iter()
        .filter(from_text)
        .collect()
}

/// Makes sure that clips-sys can be built, now and by plain `cargo build` later.
pub(crate) fn setup(root: &Root) -> Result<()> {
    let places = Places::below(root.path());
    let compiler = compiler()?;
    let own = !root.configured.contains(&LIBCLANG_PATH);
    let (library, told) = libclang(&places, std::env::var_os(LIBCLANG_PATH).filter(|_| own))?;
    say(&format!("setup: {told}"));
    fs::create_dir_all(&places.include)
        .with_context(|| format!("cannot create {}", places.include.display()))?;
    copy_headers(&compiler, &places.include)?;
    let text = config_text(&places.include, library.as_deref())?;
    replace_if_different(&places.config, text.as_bytes())
}

/// Finds or gets libclang; tells in one line what was done and why. No path means that the user
/// has set one.
fn libclang(places: &Places, own: Option<OsString>) -> Result<(Option<PathBuf>, String)> {
    if let Some(own) = own {
        return Ok((None, format!("using your LIBCLANG_PATH, {}", own.display())));
    }
    let library = places.library();
    if library.exists() {
        return Ok((
            Some(library),
            "libclang is in place (.tools/libclang)".to_owned(),
        ));
    }
    if let Some((version, found)) = system_libclang() {
        let told = format!("using the system's libclang {version}, {}", found.display());
        return Ok((Some(found), told));
    }
    say(&format!(
        "setup: this machine has no libclang 14 or 15, which the CLIPS bindings need (newer ones \
         do not work); downloading {WHEEL} with pip into .tools/libclang, about 20 MB"
    ));
    download(places)?;
    Ok((
        Some(library),
        format!("unpacked {WHEEL} into .tools/libclang"),
    ))
}

// --- a libclang of the system ---

/// The best suitable libclang in the places where distributions put it.
fn system_libclang() -> Option<(u32, PathBuf)> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for version in SUITABLE {
        for pattern in [
            "/usr/lib/llvm-{}/lib",
            "/usr/lib/llvm{}/lib",
            "/usr/lib64/llvm{}/lib",
            "/usr/lib64/llvm{}/lib64",
            "/opt/homebrew/opt/llvm@{}/lib",
            "/usr/local/opt/llvm@{}/lib",
        ] {
            folders.push(pattern.replace("{}", &version.to_string()).into());
        }
    }
    folders.push(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH).into());
    folders.push("/usr/lib64".into());
    folders.push("/usr/lib".into());
    folders.push("/usr/local/lib".into());
    best_libclang(&folders)
}

/// The best suitable libclang in these folders; of equals, the first.
fn best_libclang(folders: &[PathBuf]) -> Option<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        found.extend(
            paths
                .into_iter()
                .filter_map(|path| Some((version_by_name(&path)?, path))),
        );
    }
    SUITABLE
        .iter()
        .find_map(|wanted| found.iter().find(|(version, _)| version == wanted).cloned())
}

/// The major version that a libclang's path tells: of the file, of what it links to, or of the
/// folder (`libclang-14.so.1`, `libclang.so.15.0.7`, `/usr/lib/llvm-15/lib/libclang.so`).
fn version_by_name(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    // Not `libclang-cpp.so.14`, which is another library.
    let rest = name.strip_prefix("libclang")?;
    let versioned = rest
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(is_digit));
    let is_libclang =
        rest.starts_with(".so") || rest == ".dylib" || (versioned && rest.contains(".so"));
    // A link that leads nowhere is no library.
    if !is_libclang || !path.exists() {
        return None;
    }
    let target = fs::canonicalize(path).ok()?;
    let target_name = target.file_name()?.to_str()?;
    let from_name = |name: &str| {
        numbers(name.strip_prefix("libclang")?).find(|number| plausible_version(*number))
    };
    from_name(name)
        .or_else(|| from_name(target_name))
        .or_else(|| {
            path.parent()?
                .iter()
                .chain(target.parent()?.iter())
                .filter_map(OsStr::to_str)
                .filter_map(|folder| folder.strip_prefix("llvm"))
                .find_map(|rest| numbers(rest).next())
        })
}

/// Since LLVM 14 the soname counts on its own (`libclang.so.13`), so 13 tells nothing.
fn plausible_version(number: u32) -> bool {
    (14..100).contains(&number)
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|c| !is_digit(c))
        .filter_map(|digits| digits.parse().ok())
}

// --- the wheel ---

/// Downloads, checks and unpacks the wheel. What is half done never gets its final name.
fn download(places: &Places) -> Result<()> {
    let work = places
        .tools
        .join(format!("download-{}", std::process::id()));
    let result = download_into(&work, places);
    let _ = fs::remove_dir_all(&work);
    result.with_context(|| format!("cannot get libclang by pip; you can {BY_HAND}"))
}

fn download_into(work: &Path, places: &Places) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let python = python_with_pip(work)?;
    let requirements = work.join("requirements.txt");
    fs::write(&requirements, requirement_line()).context("cannot write the requirements file")?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
        ])
        .args([
            "--disable-pip-version-check",
            "--require-hashes",
            "--requirement",
        ])
        .arg(&requirements)
        .arg("--dest")
        .arg(work))?;
    let wheel = find(work, &|name| name.ends_with(".whl")).context("pip left no wheel")?;
    let unpacked = work.join("unpacked");
    run(Command::new(&python)
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(&unpacked))?;
    let library = find(&unpacked, &|name| name == library_name())
        .with_context(|| format!("the wheel holds no {}", library_name()))?;
    let place = places.library();
    fs::create_dir_all(&places.native)
        .with_context(|| format!("cannot create {}", places.native.display()))?;
    fs::rename(&library, &place)
        .with_context(|| format!("cannot move libclang to {}", place.display()))
}

fn requirement_line() -> String {
    let hashes: String = WHEEL_HASHES
        .iter()
        .map(|hash| format!(" --hash=sha256:{hash}"))
        .collect();
    format!("{WHEEL}{hashes}\n")
}

/// A Python that can run pip: the system's, or a private environment if only that can.
pub(crate) fn python_with_pip(work: &Path) -> Result<OsString> {
    let python = ["python3", "python"]
        .into_iter()
        .find(|python| answers(Command::new(python).args(["-c", "import zipfile"])))
        .context("neither `python3` nor `python` runs here")?;
    if answers(Command::new(python).args(["-m", "pip", "--version"])) {
        return Ok(python.into());
    }
    say("setup: Python has no pip here; making a private environment that has");
    let private = work.join("python");
    if !answers(Command::new(python).args(["-m", "venv"]).arg(&private)) {
        bail!(
            "{python} has neither pip nor a complete venv module \
             (Debian, Ubuntu: `apt install python3-pip`)"
        );
    }
    Ok(private.join("bin/python").into())
}

/// The first file below `folder` whose name is wanted, in the order of names.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.into_iter().find_map(|path| {
        if path.is_dir() {
            return find(&path, wanted);
        }
        let name = path.file_name()?.to_str()?;
        wanted(name).then(|| path.clone())
    })
}

fn library_name() -> String {
    format!(
        "{}clang{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    )
}

// --- the compiler's headers ---

/// The C compiler, as the `cc` crate would choose it.
fn compiler() -> Result<OsString> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if !answers(Command::new(&compiler).arg("--version")) {
        bail!(
            "the C compiler `{}` does not run; CLIPS and cryptography are C code, so install one \
             (Debian, Ubuntu: `apt install build-essential`; Fedora: `dnf install gcc`; macOS: \
             `xcode-select --install`) or set CC",
            compiler.display()
        );
    }
    Ok(compiler)
}

/// Copies the headers that belong to the compiler rather than to the C library. Copies, since a
/// path such as `/usr/lib/gcc/.../12/include` ends with the next update of the compiler.
fn copy_headers(compiler: &OsStr, to: &Path) -> Result<()> {
    let Some(from) = header_folder(compiler) else {
        say(&format!(
            "setup: `{}` does not tell where its headers are; if the build cannot find stddef.h, \
             set BINDGEN_EXTRA_CLANG_ARGS to -I and their folder",
            compiler.display()
        ));
        return Ok(());
    };
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(OsStr::to_str) else {
            continue;
        };
        if is_basic_header(name) {
            replace_if_different(&to.join(name), &fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn header_folder(compiler: &OsStr) -> Option<PathBuf> {
    // gcc answers the first question, clang on macOS only the second.
    let gcc = capture(Command::new(compiler).arg("-print-file-name=include")).ok();
    let clang = capture(Command::new(compiler).arg("-print-resource-dir")).ok();
    let gcc = gcc.map(|answer| PathBuf::from(answer.trim()));
    let clang = clang.map(|answer| Path::new(answer.trim()).join("include"));
    [gcc, clang]
        .into_iter()
        .flatten()
        .find(|folder| folder.join("stddef.h").is_file())
}

/// `stddef.h`, `__stddef_size_t.h`, `limits.h`, ...: standard C, no processor's intrinsics.
fn is_basic_header(name: &str) -> bool {
    let stem = name.trim_start_matches('_');
    name.ends_with(".h")
        && (stem.starts_with("std")
            || matches!(stem, "limits.h" | "syslimits.h" | "float.h" | "iso646.h"))
}

// --- cargo's configuration ---

/// The part of cargo's configuration that holds absolute paths and thus cannot be in git.
fn config_text(include: &Path, library: Option<&Path>) -> Result<String> {
    // bindgen splits this variable as a shell would.
    let arguments = format!("'-I{}'", plain(include)?);
    let mut text =
        "# Written by `cargo xtask setup`; included by .cargo/config.toml.\n[env]\n".to_owned();
    text.push_str(&setting(CLANG_ARGS, &arguments));
    if let Some(library) = library {
        text.push_str(&setting(LIBCLANG_PATH, plain(library)?));
    }
    Ok(text)
}

/// The path as text, if that needs no quoting in any of the languages it passes through.
fn plain(path: &Path) -> Result<&str> {
    path.to_str()
        .filter(|text| !text.contains(['\'', '"', '\\', '\n']))
        .with_context(|| {
            format!("{path:?} has a quote, a backslash or worse in it; move the clone")
        })
}

fn setting(name: &str, value: &str) -> String {
    format!("{name} = \"{value}\"\n")
}

/// Writes a file, unless it says the same already: its time stamp is part of what cargo watches.
fn replace_if_different(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
