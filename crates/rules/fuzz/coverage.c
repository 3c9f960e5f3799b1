/* What gcc's -fsanitize-coverage=trace-pc calls at each edge (see build.rs for the name). libFuzzer takes only clang's form of
 * it, but also looks at any counters in a section of this name. */
#include <stdint.h>

#define COUNTERS (1u << 15)

__attribute__((section("__libfuzzer_extra_counters"), used)) static uint8_t counters[COUNTERS];

__attribute__((no_sanitize_coverage)) void __wrap___sanitizer_cov_trace_pc(void) {
    uintptr_t at = (uintptr_t)__builtin_return_address(0);
    uint8_t *counter = &counters[((at >> 2) ^ (at >> 17)) & (COUNTERS - 1)];
    if (*counter < UINT8_MAX) {
        ++*counter;
    }
}

/* What gcc's trace-cmp calls for floats, of which libFuzzer takes no notice. */
void __sanitizer_cov_trace_cmpf(float a, float b) {
    (void)a;
    (void)b;
}
void __sanitizer_cov_trace_cmpd(double a, double b) {
    (void)a;
    (void)b;
}
