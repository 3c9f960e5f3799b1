#!/bin/sh
# The C compiler for `cargo xtask fuzz`: code of CLIPS counts what it reaches (coverage.c takes it),
# code of build scripts, which are linked without that, does not.
case "$*" in
*CLIPS/core*) exec cc -fsanitize-coverage=trace-pc,trace-cmp "$@" ;;
*) exec cc "$@" ;;
esac
