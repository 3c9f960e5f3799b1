//! Counts which code of CLIPS an input reaches: see `coverage.c`.

fn main() {
    println!("cargo:rerun-if-changed=coverage.c");
    cc::Build::new().file("coverage.c").compile("coverage");
    // libFuzzer has a function of this name too, which does nothing.
    println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__sanitizer_cov_trace_pc");
    // The code of CLIPS, which names these, comes later.
    for name in [
        "__wrap___sanitizer_cov_trace_pc",
        "__sanitizer_cov_trace_cmpf",
        "__sanitizer_cov_trace_cmpd",
    ] {
        println!("cargo:rustc-link-arg-bins=-Wl,--undefined={name}");
    }
}
