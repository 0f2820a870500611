#!/bin/bash
# Builds the receiver with its tests under sanitizers, and runs them; nothing that needs torch.
#   tests/sanitize.sh address [TEST...]   memory errors, leaks, undefined behaviour: all of scp/, the hostile peers too
#   tests/sanitize.sh thread [TEST...]    data races: what has threads
# The receiver's processes are watched as well: an error or a leak ends one with a status that the tests do not accept.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
kind=${1:?address or thread}
shift
case $kind in
    address)
        preset=asan
        [ $# -gt 0 ] || set -- test_queue test_scp_dicom test_scp_store test_scp_audit test_scp_metrics \
            test_scp_hostile test_scp_server
        export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
        export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        ;;
    thread)
        preset=tsan
        [ $# -gt 0 ] || set -- test_scp_audit test_scp_metrics
        export TSAN_OPTIONS=halt_on_error=1
        ;;
    *)
        echo "address or thread" >&2
        exit 1
        ;;
esac
mkdir -p build
cmake --preset $preset -Wno-dev >build/$preset-configure.log 2>&1 || {
    tail -20 build/$preset-configure.log >&2
    exit 1
}
cmake --build build/$preset --parallel "${JOBS:-$(nproc)}" --target "$@"
for test in "$@"; do
    echo "== $test under the $kind sanitizer"
    build/$preset/bin/"$test" --gtest_brief=1
done
