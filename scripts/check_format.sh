#!/usr/bin/env bash
# check_format.sh: the format check as a test.
exec "$(dirname "$0")/format.sh" --check "$@"
