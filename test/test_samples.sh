#!/bin/sh
# Each sample does what it says, also when it is killed in the middle of its
# work and started again. QUICK=1 tries fewer of everything.
#
# Nothing here waits for a time, only for what has to come, and not for ever.
set -eu

: "${srcdir:=.}" "${top_builddir:=.}" "${QUICK:=}"
# shellcheck source=test/wait.sh
. "$srcdir/test/wait.sh"
samples=$top_builddir/samples
LC_ALL=C
export LC_ALL
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY || :

dir=$(mktemp -d)
pid=
client=

cleanup() {
    for each in $pid $client; do
        kill -KILL "$each" 2>/dev/null || :
    done
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Ends the test: what is wrong, then the files that show it.
fail() {
    echo "$1"
    shift
    for file in "$@"; do
        echo "== ${file##*/}"
        cat "$file" || :
    done
    exit 1
}

# count PATTERN FILE
count() {
    grep -c "$1" "$2" || :
}

# has N PATTERN FILE: at least so many lines of the file are like that.
has() {
    [ "$(count "$2" "$3")" -ge "$1" ]
}

# check_status WANTED WHAT FILE
check_status() {
    [ "$status" -eq "$1" ] || fail "$2: status $status" "$3"
}

# Kills or asks $pid to end, and waits for it. Sets status.
end_with() {
    status=0
    kill "-$1" "$pid" || fail "cannot send $1, it has ended before"
    wait "$pid" 2>/dev/null || status=$?
    pid=
}

# ---- hello ------------------------------------------------------------------

# Killed as soon as FILE of its store is there, or a little later, or too late;
# then it says hello for the job left behind, if it came that far, and for its
# own.
try_hello() {
    rm -rf "$dir/hello"
    "$samples/hello" "$dir/hello" >"$dir/hello.1" &
    pid=$!
    wait_for test -e "$dir/hello/$1" || fail "hello makes no $1"
    kill -KILL "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
    pid=
    "$samples/hello" "$dir/hello" >"$dir/hello.2" 2>&1 ||
        fail 'hello fails after a kill' "$dir/hello.2"
    tail -n 1 "$dir/hello.2" | grep -q '^job [0-9]* is done$' ||
        fail 'hello does not say that its job is done' "$dir/hello.2"
    [ "$(count '^hello, world$' "$dir/hello.2")" -eq \
        $(($(wc -l <"$dir/hello.2") - 1)) ] ||
        fail 'hello does not say hello' "$dir/hello.2"
}

test_hello() {
    for file in . FORMAT db/CURRENT; do
        try_hello $file
    done
    status=0
    "$samples/hello" "$dir/no/such/place" 2>"$dir/hello.3" || status=$?
    check_status 1 'hello at no such place' "$dir/hello.3"
    has 1 'no such file' "$dir/hello.3" ||
        fail 'hello does not say what is wrong' "$dir/hello.3"
}

# ---- demo -------------------------------------------------------------------

# The ids of the lines like that, sorted.
ids() {
    sed -n "s/^$1 \([0-9]*\) .*/\1/p" "$2" | sort -u
}

# common WHAT A WHAT B: how many ids both have.
common() {
    ids "$1" "$2" >"$dir/ids.1"
    ids "$3" "$4" | comm -12 "$dir/ids.1" - | wc -l
}

start_demo() {
    "$samples/demo" -d "$dir/demo" -n 4 -t "$1" >"$2" 2>&1 &
    pid=$!
}

# Stopped by Ctrl-C, then killed, then left to end.
test_demo() {
    jobs=200 # they last longer than the shell may be held up
    out1=$dir/demo.1 out2=$dir/demo.2 out3=$dir/demo.3
    "$samples/demo" -d "$dir/demo" enqueue $jobs >"$out1" ||
        fail 'demo enqueues nothing'
    has 1 "^enqueued $jobs jobs\$" "$out1" || fail 'demo enqueue' "$out1"

    start_demo 300 "$out1"
    wait_for has 2 '^end ' "$out1" || fail 'demo runs nothing' "$out1"
    end_with INT
    check_status 130 'demo after SIGINT' "$out1"
    [ "$(common start "$out1" end "$out1")" -eq "$(count '^start ' "$out1")" ] ||
        fail 'demo did not let its jobs end' "$out1"

    start_demo 300 "$out2"
    wait_for has 2 '^end ' "$out2" || fail 'demo does not go on' "$out2"
    end_with KILL

    "$samples/demo" -d "$dir/demo" -n 4 -t 10 >"$out3" ||
        fail "demo does not go on after a kill: $?" "$out3"
    check_demo
}

check_demo() {
    cat "$out1" "$out2" "$out3" >"$dir/demo.all"
    sed 's/ run 1$/ first/; s/^start \(.* first\)$/first \1/' "$out3" \
        >"$dir/demo.4"
    [ "$(ids end "$dir/demo.all" | wc -l)" -eq $jobs ] ||
        fail 'demo left out a job' "$dir/demo.all"
    cat "$out2" "$out3" >"$dir/demo.5"
    [ "$(common end "$out1" start "$dir/demo.5")" -eq 0 ] ||
        fail 'demo repeats jobs after Ctrl-C' "$dir/demo.all"
    [ "$(common start "$out2" first "$dir/demo.4")" -eq 0 ] ||
        fail 'demo takes a repeated run for the first' "$dir/demo.all"
    runs=$(count '^start ' "$out3")
    repeated=$((runs - $(count '^first ' "$dir/demo.4")))
    has 1 "^all done: $runs runs here, $repeated of them repeated\$" "$out3" ||
        fail "demo counts wrong: $runs runs, $repeated repeated" "$out3"
    has 1 "^in the store: $jobs complete, 0 failed\$" "$out3" ||
        fail "demo does not count $jobs jobs in the store" "$out3"
}

# ---- tcp_server -------------------------------------------------------------

# start_server OUT OPTION...: sets pid and port.
start_server() {
    out=$1
    shift
    "$samples/tcp_server" -d "$dir/tcp" "$@" >"$out" 2>&1 &
    pid=$!
    wait_for has 1 '^listening on ' "$out" || fail 'tcp_server' "$out"
    port=$(sed -n 's/^listening on 127.0.0.1://p' "$out")
}

# Sends its input, then takes answers until the server closes.
talk() {
    timeout 60 busybox nc 127.0.0.1 "$port" || :
}

# check_answers N PATTERN
check_answers() {
    n=$(count "$2" "$dir/answers")
    [ "$n" -eq "$1" ] || {
        head -n 20 "$dir/answers" >"$dir/answers.20"
        fail "tcp_server: $n answers '$2', not $1" "$dir/answers.20" "$out"
    }
}

test_tcp_answers() {
    start_server "$dir/tcp.1" -i 50
    printf 'abc\nfail\n\nxyz\r\nnot a line' | talk >"$dir/answers"
    for each in 'done 1 CBA' 'failed 2 told to fail' 'done 3' 'done 4 ZYX'; do
        check_answers 1 "^$each\$"
    done
    check_answers 4 '^queued '
    check_answers 8 ''

    { head -c 70000 /dev/zero | tr '\0' x && printf '\nafter\n'; } |
        talk >"$dir/answers"
    check_answers 1 '^error line too long$'
    check_answers 1 '^done 5 RETFA$'

    lines=${QUICK:+500}
    lines=${lines:-5000}
    seq "$lines" | talk >"$dir/answers"
    check_answers "$lines" '^queued '
    check_answers "$lines" '^done '
    end_with TERM
    check_status 0 'tcp_server after SIGTERM' "$out"
}

# scrape PATH: into $dir/scraped.
scrape() {
    url=$(sed -n 's/^http:..\(.*\)\/metrics$/\1/p' "$out")
    printf 'GET %s HTTP/1.1\r\nHost: x\r\n\r\n' "$1" |
        timeout 60 busybox nc "${url%:*}" "${url#*:}" >"$dir/scraped" || :
}

# check_scraped LINE
check_scraped() {
    tr -d '\r' <"$dir/scraped" | grep -qxF "$1" ||
        fail "tcp_server: no '$1' in what it tells Prometheus" "$dir/scraped"
}

test_tcp_metrics() {
    rm -rf "$dir/tcp"
    start_server "$dir/tcp.5" -m 0
    printf 'abc\nfail\n' | talk >"$dir/answers"
    scrape /metrics
    check_scraped 'HTTP/1.1 200 OK'
    check_scraped 'Content-Type: text/plain; version=0.0.4; charset=utf-8'
    check_scraped 'dassie_jobs{queue="default",state="complete"} 1'
    check_scraped 'dassie_jobs{queue="default",state="failed"} 1'
    bytes=$(sed -n 's/^Content-Length: \([0-9]*\).*/\1/p' "$dir/scraped")
    sed '1,/^.$/d' "$dir/scraped" >"$dir/text"
    [ "$(wc -c <"$dir/text")" -eq "$bytes" ] ||
        fail 'tcp_server: another length' "$dir/scraped"
    if command -v promtool >/dev/null; then
        promtool check metrics <"$dir/text" || fail 'promtool' "$dir/text"
    fi
    scrape /
    check_scraped 'HTTP/1.1 404 Not Found'
    end_with TERM
    check_status 0 'tcp_server after SIGTERM' "$out"
}

# start_client N: sends lines and stays connected. Sets client.
start_client() {
    rm -f "$dir/lines"
    mkfifo "$dir/lines"
    busybox nc 127.0.0.1 "$port" <"$dir/lines" >"$dir/answers" &
    client=$!
    exec 3>"$dir/lines"
    seq "$1" >&3
    wait_for has "$1" '^queued ' "$dir/answers" ||
        fail 'tcp_server queues nothing' "$dir/answers" "$out"
}

# The client dies while its jobs are under way, then the server does.
test_tcp_kills() {
    start_server "$dir/tcp.2" -t 200
    start_client 6
    kill -KILL "$client"
    wait "$client" 2>/dev/null || :
    exec 3>&-
    start_client 600
    wait_for has 1 '^done ' "$dir/answers" ||
        fail 'tcp_server does nothing' "$dir/answers" "$out"
    end_with KILL
    wait "$client" || :
    client=
    exec 3>&-

    start_server "$dir/tcp.3"
    left=$(sed -n 's/ jobs from before$//p' "$out")
    most=$((606 - $(count '^done ' "$dir/answers")))
    [ "${left:=0}" -ge 1 ] || fail 'tcp_server has no jobs from before' "$out"
    [ "$left" -le "$most" ] ||
        fail "tcp_server has $left jobs from before, not up to $most" "$out"
    wait_for has 1 '^jobs from before are done$' "$out" ||
        fail 'tcp_server does not run what was left' "$out"
    end_with TERM
    start_server "$dir/tcp.4"
    end_with INT
    check_status 0 'tcp_server after SIGINT' "$out"
    ! has 1 before "$out" || fail 'tcp_server left something again' "$out"
}

# ---- crawl ------------------------------------------------------------------

# Nothing listens at port 1, so all fails, and that is known the next time, too.
test_crawl_fails() {
    printf 'http://127.0.0.1:1/a\n# no\n\n  ftp://127.0.0.1/b \r\nhttp://[' \
        >"$dir/urls"
    for each in first second; do
        status=0
        "$samples/crawl" -d "$dir/crawl" "$dir/urls" http://127.0.0.1:1/ \
            >"$dir/crawl.1" 2>&1 || status=$?
        check_status 1 "crawl, the $each time" "$dir/crawl.1"
        has 1 '^3 URLs: 0 done, 3 failed, 0 ' "$dir/crawl.1" ||
            fail "crawl, the $each time" "$dir/crawl.1"
        has 1 '^  3 failed: post: ' "$dir/crawl.1" ||
            fail "crawl, the $each time, without a reason" "$dir/crawl.1"
    done
}

test_crawl_kill() {
    urls=${QUICK:+60}
    urls=${urls:-300}
    DEMO_URLS=$urls sh "$srcdir/samples/crawl-demo.sh" "$top_builddir" \
        >"$dir/crawl.2" 2>&1 || fail "crawl-demo.sh: $?" "$dir/crawl.2"
    has 1 "^-- received: $urls of $urls URLs, " "$dir/crawl.2" ||
        fail 'crawl-demo.sh did not receive all' "$dir/crawl.2"
    has 1 "^$urls URLs: $urls done, 0 failed, " "$dir/crawl.2" ||
        fail 'crawl-demo.sh counts something else' "$dir/crawl.2"
}

# ---- resume -----------------------------------------------------------------

# last PATTERN FILE: the number in the last line like that; 0 if there is none.
last() {
    last_n=$(sed -n "s/^$1\$/\1/p" "$2" | tail -n 1)
    echo "${last_n:-0}"
}

# Killed twice in the middle. It goes on with the last mail that it knew to be in
# the queue, or behind it, so none of those before is sent twice.
test_resume() {
    before=0
    for each in 1 2 3; do
        out=$dir/resume.$each
        steps=1000000 # it does not end before it is killed
        [ "$each" -lt 3 ] || steps=$((before + 1000))
        "$samples/resume" "$dir/resume" "$steps" >"$out" 2>&1 &
        pid=$!
        wait_for has 1 '^begins with' "$out" || fail 'resume runs nothing' "$out"
        from=$(last 'begins with mail \([0-9]*\)' "$out")
        [ "$from" -ge "$before" ] ||
            fail "resume goes back to $from, before $before" "$out"
        [ "$each" -lt 3 ] || break
        wait_for has 2 '^mail .* is queued' "$out" ||
            fail 'resume queues nothing' "$out"
        end_with KILL
        before=$(last 'mail \([0-9]*\) is queued' "$out")
    done
    status=0
    wait "$pid" || status=$?
    pid=
    check_status 0 'resume after two kills' "$out"
    has 1 '^all is done$' "$out" || fail 'resume is not done' "$out"
    "$samples/resume" "$dir/resume" "$steps" >"$out" 2>&1 || fail 'resume' "$out"
    ! has 1 '^begins' "$out" || fail 'resume begins again' "$out"
}

# ---- retry ------------------------------------------------------------------

# Three attempts, the operator's view, one more: each step is told in its order,
# whatever the times.
test_retry() {
    out=$dir/retry.1
    "$samples/retry" "$dir/retry" 10 >"$out" 2>&1 || fail 'retry' "$out"
    cat >"$dir/retry.wanted" <<'WANTED'
payment 1 waits for its time
payment 1 waits for a processor
payment 1 runs, attempt 1
payment 1 will be tried again (UV_ECONNREFUSED)
payment 1 waits for a processor
payment 1 runs, attempt 2
payment 1 will be tried again (UV_ECONNREFUSED)
payment 1 waits for a processor
payment 1 runs, attempt 3
payment 1 has failed for good (UV_ECONNREFUSED)
operator: payment 1 has failed: the bank is closed
operator: the bank is open, all of them again
payment 1 waits for a processor
payment 1 runs, attempt 4
payment 1 is complete
WANTED
    diff "$dir/retry.wanted" "$out" || fail 'retry tells other steps'
    "$samples/retry" "$dir/retry" 1 >"$out" 2>&1 || fail 'retry again' "$out"
    has 1 ' is complete$' "$out" || fail 'retry again does not end' "$out"
}

command -v busybox >/dev/null || fail 'busybox is needed, as client and server'
test_hello
test_demo
test_resume
test_retry
test_tcp_answers
test_tcp_kills
test_tcp_metrics
if [ -e "$samples/crawl" ]; then
    test_crawl_fails
    test_crawl_kill
else
    echo 'crawl was not built, as there is no libcurl; it is not tried'
fi
