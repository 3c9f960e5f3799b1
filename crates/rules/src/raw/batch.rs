//! CLIPS as its own program, for people's scripts: no limits, no capture, all functions.

use std::ffi::{CString, c_char};

use clips_sys as c;

/// Do what CLIPS's own `main` does with these options, then read commands from standard input.
/// Does not return: `(exit)`, or the end of the input, ends the process.
///
/// `arguments` are as for the original: `-f2 FILE`, `-f FILE`, `-l FILE`. The only difference is
/// the end of the input, at which the original would read newlines for ever.
pub(crate) fn original(arguments: &[CString]) -> ! {
    let mut pointers = vec![c"clips".as_ptr().cast_mut()];
    pointers.extend(arguments.iter().map(|text| text.as_ptr().cast_mut()));
    let count = pointers.len();
    pointers.push(std::ptr::null_mut());
    // SAFETY: an environment of our own, used by this thread alone; the arguments outlive it, as
    // the process ends here.
    unsafe {
        let env = c::CreateEnvironment();
        c::SetEventFunction(env, Some(next_character));
        c::RerouteStdin(
            env,
            i32::try_from(count).unwrap_or(i32::MAX),
            pointers.as_mut_ptr().cast::<*mut c_char>(),
        );
        c::CommandLoop(env);
        c::DestroyEnvironment(env);
        libc::exit(-1)
    }
}

/// As the original's, but the end of the input ends the process.
unsafe extern "C" fn next_character(env: *mut c::Environment) {
    /// What C says at the end of a file.
    const END_OF_FILE: i32 = -1;
    // SAFETY: called by the environment's own loop.
    unsafe {
        let character = c::ReadRouter(env, c"stdin".as_ptr());
        if character == END_OF_FILE {
            // As `(exit)`: C's own streams are written out.
            libc::exit(0);
        }
        c::ExpandCommandString(env, character);
    }
}
