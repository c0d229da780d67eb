#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The report of a GPU that CI does not have: kernel suite, end-to-end tests, the demo model's texts, benchmarks.
#   tools/dev/gpu_report.sh BUILD_DIR > tests/reports/NAME.txt
# BUILD_DIR holds fulmen and tests/e2e/test_*. Ends with `N passed, N failed, N skipped`; exit code 1 if anything failed.

set -u
build=${1:?usage: tools/dev/gpu_report.sh BUILD_DIR}
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
fulmen=$build/fulmen
export FULMEN_TEST_DATA=$root/tests/fixtures FULMEN_SOURCE_ROOT=$root CMOCKA_MESSAGE_OUTPUT=stdout
passed=0
failed=0

note()
{
    if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

echo "date: $(date -u +%Y-%m-%d)"
"$fulmen" --version
"$fulmen" devices

echo
echo "== kernel suite: fulmen check"
"$fulmen" check 2>&1 | tail -n 8
note "${PIPESTATUS[0]}"

# Fault injection opens the device hundreds of times: the software devices do that.
for test in "$build"/tests/e2e/test_*; do
    [ -x "$test" ] && [ -f "$test" ] && [[ $test != *fault* ]] || continue
    echo
    echo "== $(basename -- "$test")"
    "$test" 2>&1 | grep -vE '^\[ (RUN|  {5}OK) ' | tail -n 60
    note "${PIPESTATUS[0]}"
done

echo
echo "== second start of the demo model (pipelines come from the cache)"
for run in 1 2; do
    "$fulmen" run -m "$root/models/demo/demo-llama.gguf" -p "Once upon a time" -n 64 --temp 0
    note $?
    echo
done 2>&1

for shape in llama-8b:f16 llama-8b:q8_0 llama-8b:q4_0 llama-8b:q4_K llama-8b:q6_K llama-1b:f16 llama-1b:q4_0 qwen2-7b:q4_K gpt2-1.5b:f16; do
    echo
    echo "== fulmen bench --shape $shape -p 512,2048 -n 128"
    "$fulmen" bench --shape "$shape" -p 512,2048 -n 128
    note $?
done
echo
echo "== fulmen bench --shape llama-8b:f16 -p 0 -n 64 -d 8192"
"$fulmen" bench --shape llama-8b:f16 -p 0 -n 64 -d 8192
note $?
echo
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
