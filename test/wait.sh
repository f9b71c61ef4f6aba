# For scripts that wait: a part of each of them.
#
# wait_for COMMAND...: until it succeeds, for a minute at most.
# shellcheck shell=sh
wait_for() {
    end=$(($(date +%s) + 60))
    until "$@" 2>/dev/null; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.02
    done
}
