#!/bin/sh
# The command dassie as a user runs it: on a store that is idle, owned and just
# killed; what it prints, its exit codes and its one line on stderr when
# something is wrong; "dassie run" killed twice over many lines.
# TOOL_LINES=N: over so many, by default 2000, with QUICK=1 300.
#
# Nothing here waits for a time, only for what has to come, and not for ever.
set -eu

: "${srcdir:=.}" "${QUICK:=}"
# shellcheck source=test/tool.sh
. "$srcdir/test/tool.sh"
lines=${QUICK:+300}
lines=${TOOL_LINES:-${lines:-2000}}

# ---- An idle store ----------------------------------------------------------

test_add_and_look() {
    dassie 0 add hello 'two words'
    prints '^2 jobs, 1 to 2$'
    head -c 3000 /dev/urandom >"$dir/bytes"
    dassie 0 add --queue other --name big --priority -3 --file "$dir/bytes"
    prints '^job 3$'
    printf 'a\n\nb b\nc' | dassie 0 add --lines - --delay 1h
    prints '^3 jobs, 4 to 6$'

    before=$(digest)
    dassie 0 stat
    prints '^ *2 *3 .* default$'
    prints '^ *3 *3 .* 2 queues, 0\.0 MiB pending, '
    dassie 0 stat --interval 1ms --count 2
    prints '^ *2 *3 .* - *- .* default$'
    [ "$(grep -c ' default$' "$dir/out")" -eq 2 ] || fail 'stat: not twice'
    dassie 0 stat --json
    prints '"queue":"other","paused":false,"jobs":{"pending":1,'
    # hello, two words, and the big one
    prints "^{.*\"pending_bytes\":$((17 + 5 + 17 + 9 + 17 + 3 + 3000)),"
    dassie 0 ls --state pending
    prints '^ *2  pending .* default  -  two words$'
    prints '^ *3  pending .* other  big  '
    dassie 0 ls --state scheduled --json
    prints '"id":5,"state":"scheduled",.*"data":"b b"'
    [ "$(wc -l <"$dir/out")" -eq 3 ] || fail 'ls: not 3 jobs'
    dassie 0 ls --older 1h
    [ "$(wc -l <"$dir/out")" -eq 1 ] || fail 'ls: jobs are that old'
    dassie 0 show 1
    prints '^payload   5 bytes$'
    prints '^hello$'
    dassie 0 show 3 --payload raw
    cmp "$dir/out" "$dir/bytes" || fail 'show: other bytes'
    dassie 0 show 3
    prints '^00000bb0 '
    dassie 0 show --json 3
    prints "\"data_base64\":\"$(base64 -w0 <"$dir/bytes")\""
    dassie 0 verify
    prints ', 6 jobs: 0 problems$'
    [ "$before" = "$(digest)" ] || fail 'to look has changed the store'
}

# The key is free again once its job has ended.
# While the input comes others may have the store, and what is ended before all
# of it has come adds nothing of it.
test_slow_input() {
    store=$dir/slow
    for option in --lines --file; do
        mkfifo "$dir/fifo"
        "$tool" -d "$store" add "$option" - <"$dir/fifo" &
        pid=$!
        exec 9>"$dir/fifo"
        seq 40000 >&9 # more than a pipe holds: some of it was read
        dassie 0 add one
        end_with TERM
        [ "$status" -eq 143 ] || fail "add $option: status $status"
        exec 9>&-
        rm "$dir/fifo"
    done
    dassie 0 stat --json
    prints '"pending":2,'
    store=$dir/store
}

test_unique() {
    dassie 0 add --queue u --unique key --expires 1h one two
    prints '^job [0-9]*$'
    id=$(sed 's/job //' "$dir/out")
    dassie 0 add --queue u --unique key three
    prints '^no jobs$'
    dassie 0 show "$id"
    prints '^unique    key$'
    prints '^expires   20'
    dassie 0 show "$id" --json
    prints '"expires":"20.*"unique":"key"'
    dassie 0 cancel "$id"
    dassie 0 add --queue u --unique key three
    prints "^job [0-9]*\$"
    dassie 0 purge --queue u --state pending,cancelled --yes
    prints '^2 jobs deleted$'
}

# Page by page the same as at once.
test_pages() {
    dassie 0 ls --limit 0
    cp "$dir/out" "$dir/all"
    from=
    "$tool" -d "$store" ls --limit 0 | sed -n 1p >"$dir/pages"
    for each in 1 2 3 4 5 6; do
        # shellcheck disable=SC2086
        "$tool" -d "$store" ls --limit 1 $from >"$dir/out" 2>"$dir/err"
        sed 1d "$dir/out" >>"$dir/pages"
        says '^dassie: there may be more: --from [a-z]*:[0-9:]*$'
        from=$(sed 's/.*: //' "$dir/err")
    done
    sed 's/[0-9]*s  */ /' "$dir/all" >"$dir/all.1"
    sed 's/[0-9]*s  */ /' "$dir/pages" | cmp - "$dir/all.1" ||
        fail "ls: other pages, at the ${each}th"
}

test_steer() {
    dassie 0 cancel 1 4
    prints '^2 jobs cancelled$'
    dassie 1 cancel 1
    says 'job 1 is in a state in which it cannot be cancelled$'
    dassie 1 retry --state cancelled
    prints '^2 jobs would be retried$'
    says 'nothing was changed; say --yes$'
    dassie 0 retry --state cancelled --dry-run
    dassie 0 retry --state cancelled --queue other --yes
    prints '^0 jobs retried$'
    dassie 0 retry --state cancelled --queue default --yes --json
    prints '^{"changed":2}$'
    dassie 0 pause default
    dassie 0 stat
    prints ' default (paused)$'
    dassie 0 resume default
    prints '^default goes on$'
    dassie 0 rm 5 6
    prints '^2 jobs deleted$'
    dassie 3 show 5
    says 'no job 5$'
    dassie 0 cancel --queue default --yes
    dassie 1 purge
    prints '^3 jobs would be deleted$'
    dassie 0 purge --yes
    dassie 0 purge --yes --state pending
    dassie 0 stat --json
    prints '"jobs":{"pending":0,"scheduled":0,"running":0,"complete":0,'
}

# same_as_copy COPY: it is a sound store, with the same jobs.
same_as_copy() {
    dassie 0 ls --limit 0 --json
    cp "$dir/out" "$dir/jobs"
    dassie 0 verify
    sed 's/^[0-9]* rows, //' "$dir/out" >"$dir/verified"
    original=$store
    store=$1
    dassie 0 verify
    sed 's/^[0-9]* rows, //' "$dir/out" | cmp - "$dir/verified" ||
        fail 'backup: other counts'
    dassie 0 ls --limit 0 --json
    cmp "$dir/out" "$dir/jobs" || fail 'backup: other jobs'
    store=$original
}

test_backup() {
    before=$(digest)
    dassie 0 backup "$dir/copy"
    prints 'copy is a copy of the store$'
    [ "$before" = "$(digest)" ] || fail 'a backup has changed the store'
    same_as_copy "$dir/copy"
    dassie 6 backup "$dir/copy"
    says 'copy: file already exists$'
    dassie 3 backup "$dir/nowhere/copy"
    dassie 2 backup
    dassie 0 backup "$dir/copy2" --json
    prints "^{\"backup\":\"$dir/copy2\"}\$"
    original=$store
    store=$dir/copy2
    dassie 0 cancel 1
    dassie 0 add "a job of its own"
    dassie 0 verify
    store=$original
    rm -r "$dir/copy" "$dir/copy2"
}

# ---- What is wrong ----------------------------------------------------------

test_usage() {
    for each in ls stat show verify pause run backup; do
        dassie 0 $each --help
        prints "^Usage: dassie -d DIR $each "
        dassie 2 $each --no-such
        says "$each: no option '--no-such'"
    done
    dassie 2 nothing
    dassie 2 show
    dassie 2 show x
    dassie 2 ls --state pending,what
    dassie 2 ls --limit -1
    dassie 2 ls --from here
    dassie 2 add
    dassie 2 add x --priority 20
    dassie 2 purge --older 5x
    dassie 2 stat --interval x
    dassie 2 stat --count 0
    dassie 2 rm
    status=0
    "$tool" ls 2>"$dir/err" || status=$?
    [ $status -eq 2 ] || fail 'ls of no store'
    says 'which store?'
    DASSIE_DIR=$store "$tool" stat >"$dir/out" || fail 'DASSIE_DIR'
}

test_stores() {
    good=$store
    store=$dir/none
    for each in stat ls verify 'show 1' 'retry 1' 'pause x' 'run -- true' \
        'backup copy'; do
        # shellcheck disable=SC2086
        dassie 3 $each
    done
    [ ! -e "$store" ] || fail 'to look has made a store'
    mkdir "$store"
    echo something >"$store/file"
    dassie 5 ls
    says 'not a Dassie store'
    rm "$store/file"
    echo 'dassie 9999' >"$store/FORMAT"
    dassie 5 ls
    dassie 5 add x
    rm -r "$store"
    cp -R "$good" "$store"
    echo nonsense >"$store/db/CURRENT"
    dassie 5 ls
    store=$good
}

test_output() {
    status=0
    "$tool" -d "$store" ls >/dev/full 2>"$dir/err" || status=$?
    [ $status -eq 6 ] || fail "ls to a full disk: status $status"
    says 'stdout: '
    seq 3000 | dassie 0 add --queue many --lines -
    {
        status=0
        "$tool" -d "$store" ls --limit 0 2>"$dir/err" || status=$?
        echo $status >"$dir/status"
    } | head -n 1 >"$dir/out"
    [ "$(cat "$dir/status")" -eq 141 ] || fail 'ls to a closed pipe'
    [ ! -s "$dir/err" ] || fail 'ls to a closed pipe says something'
    dassie 0 purge --state pending --queue many --yes
    prints '^3000 jobs deleted$'
}

# ---- Completion -------------------------------------------------------------

# completes WORD...: the last of what follows "dassie", by bash.
completes() {
    # shellcheck disable=SC2016
    PATH=${tool%/*}:$PATH bash -c '. "$0"; COMP_WORDS=(dassie "$@")
        COMP_CWORD=$#; _dassie; printf "%s\n" "${COMPREPLY[@]}"' \
        "$srcdir/tools/completion/dassie.bash" "$@" >"$dir/out" 2>"$dir/err" ||
        fail "completion of '$*'"
    [ ! -s "$dir/err" ] || fail "completion of '$*' says something"
}

test_completion() {
    if command -v zsh >/dev/null; then
        zsh -n "$srcdir/tools/completion/_dassie" || fail 'completion for zsh'
    fi
    command -v bash >/dev/null || return 0
    completes pa
    prints '^pause$'
    [ "$(wc -l <"$dir/out")" -eq 1 ] || fail 'completion: not only pause'
    completes -d "$store" ls --st
    prints '^--state$'
    completes ls -s run
    prints '^running$'
    completes show -p h
    prints '^hex$'
    completes --v
    prints '^--version$'
    dassie 0 add --queue that-one x
    completes -d "$store" pause that
    prints '^that-one$'
    completes -d "$store" ls -q that
    prints '^that-one$'
    dassie 0 purge --yes --queue that-one --state pending
}

# ---- run --------------------------------------------------------------------

# run STATUS ARGUMENT...: as dassie, but the summary is on stderr.
run() {
    wanted=$1
    shift
    status=0
    "$tool" -d "$store" run "$@" >"$dir/out" 2>"$dir/err" || status=$?
    [ "$status" -eq "$wanted" ] || fail "run $*: status $status, not $wanted"
}

test_run() {
    dassie 0 add --queue r --attempts 1 one 'two  words'
    # shellcheck disable=SC2016
    run 0 -q r -v -- sh -c 'echo "$DASSIE_JOB_QUEUE: $(cat)"'
    prints '^r: two  words$'
    prints '^job [0-9]* complete$'
    says '^dassie: 2 complete, 0 failed$'
    dassie 0 add --queue r --attempts 1 'x y'
    run 0 -q r -- echo '<{}>' '{}{}'
    prints '^<x y> x yx y$'
    dassie 0 add --queue r --attempts 1 bad
    id=$(sed 's/job //' "$dir/out")
    run 1 -q r -- sh -c 'echo so bad >&2; exit 7'
    says '^so bad$'
    says '^dassie: 0 complete, 1 failed$'
    dassie 0 show --json "$id"
    prints '"state":"failed",.*"error_code":7,"error":"so bad"'
    dassie 0 retry "$id"
    run 6 -q r -- "$dir/no-such-command"
    says 'no-such-command: no such file or directory$'
    dassie 0 show --json "$id"
    prints '"state":"scheduled"'
    run 1 -q r --json -- sh -c 'kill -KILL $$'
    prints '^{"complete":0,"failed":1,"cancelled":0}$'
    dassie 0 show --json "$id"
    prints '"error_code":137,"error":"killed by signal 9"'
    dassie 0 add --queue r --attempts 1 --timeout 1s x
    id=$(sed 's/job //' "$dir/out")
    run 1 -q r -- sh -c 'exec sleep 1000'
    dassie 0 show "$id"
    prints '^error .*UV_ETIMEDOUT$'
    dassie 3 run -q none -- true
    dassie 3 tail
}

# look_at_live ID: the job that is under way, and the queue.
look_at_live() {
    dassie 0 show "$1"
    prints '^state     running$'
    dassie 0 ls --state running
    prints "^ *$1  running .* i  -  x\$"
    dassie 0 stat
    prints '^ *0 *0 *1 .* i$'
    dassie 0 stat --json
    prints '"queue":"i","paused":false,"jobs":{"pending":0,"scheduled":0,"runn'
    dassie 3 show 123456
    dassie 4 run -- true
    says "held by pid $pid\$"
}

# All that is done by the owner. More lines than go into one request.
# Lines go to the owner in pieces that fit, whatever goes with each of them.
add_wide() {
    seq 5000 |
        dassie 0 add --queue wide --name "$(printf '%0250d' 1)" --lines -
    prints '^5000 jobs, '
    for bytes in 200000 900000 900000 1; do
        head -c "$bytes" /dev/zero | tr '\0' x
        echo
    done >"$dir/wide"
    dassie 0 add --queue wide --lines "$dir/wide"
    prints '^4 jobs, '
}

steer_live() {
    seq 10000 | dassie 0 add --queue live --lines - --name n
    prints '^10000 jobs, '
    dassie 0 pause live
    dassie 3 pause none
    dassie 0 ls --queue live --limit 0
    [ "$(wc -l <"$dir/out")" -eq 10001 ] || fail 'ls: not 10000 jobs'
    head -c 600000 /dev/urandom >"$dir/large"
    dassie 0 add --queue live --file "$dir/large"
    large=$(sed 's/job //' "$dir/out")
    dassie 0 show "$large" --payload raw
    cmp "$dir/out" "$dir/large" || fail 'show: other bytes from the owner'
    head -c 1100000 /dev/zero >"$dir/large"
    dassie 6 add --queue live --file "$dir/large"
    says 'too long'
    dassie 0 cancel "$large"
    dassie 1 cancel "$large"
    dassie 0 retry "$large"
    dassie 0 cancel --queue live --name n --yes
    prints '^10000 jobs cancelled$'
    dassie 0 add --queue live --unique k --expires 1h x
    keyed=$(sed 's/job //' "$dir/out")
    dassie 0 add --queue live --unique k x
    prints '^no jobs$'
    dassie 0 show "$keyed"
    prints '^unique    k$'
    prints '^expires   20'
    dassie 0 rm "$keyed"
    dassie 1 purge --queue live
    dassie 0 purge --queue live --yes --state cancelled
    prints '^10000 jobs deleted$'
    dassie 0 rm "$large"
    dassie 0 resume live
}

# By the owner, which has another working directory.
copy_live() {
    dassie 0 verify
    prints ' jobs: 0 problems$'
    dassie 0 verify --json
    prints '"running":1,.*"problems":\[\]}$'
    (cd "$dir" && "$tool" -d "$store" backup live.copy >"$dir/out") ||
        fail 'backup by the owner'
    prints '^live.copy is a copy of the store$'
    dassie 6 backup "$dir/live.copy"
    says 'live.copy: file already exists$'
    dassie 3 backup "$dir/nowhere/copy"
    same_as_copy "$dir/live.copy"
    rm -r "$dir/live.copy"
}

# tail tells of what happens from some time on.
until_told() {
    end=$(($(date +%s) + 60))
    until grep -q '"from":"none","to":"pending"' "$dir/events"; do
        dassie 0 add --queue tailed x
        [ "$(date +%s)" -lt "$end" ] || fail 'tail tells nothing'
    done
    dassie 0 cancel --queue tailed --yes
    wait_for grep -q '"from":"pending","to":"cancelled"' "$dir/events" ||
        fail 'tail tells of no end'
}

# A job may come between the look at all queues and that at its own.
are_rated() {
    grep -q '"disk_bytes":[0-9]*,"per_second":{"enqueued":[1-9]' "$dir/rates" &&
        grep -q '"queue":"rated".*"enqueued":[1-9]' "$dir/rates"
}

# What comes and ends in a second, as it is counted by the owner; at rest it is
# not known.
until_rated() {
    "$tool" -d "$store" stat --interval 20ms --json >"$dir/rates" &
    stat=$!
    end=$(($(date +%s) + 60))
    until are_rated; do
        dassie 0 add --queue rated x
        [ "$(date +%s)" -lt "$end" ] || fail 'stat tells no rate'
    done
    head -n 1 "$dir/rates" | grep -q '"disk_bytes":[0-9]*,"per_second":null' ||
        fail 'stat tells a rate after one look'
    status=0
    kill -TERM "$stat"
    wait "$stat" || status=$?
    stat=
    [ $status -eq 143 ] || fail "stat: status $status after SIGTERM"
    dassie 0 cancel --queue rated --yes
    dassie 0 stat --interval 20ms --count 3
    [ "$(grep -c ' rated$' "$dir/out")" -eq 3 ] || fail 'stat: not three times'
    prints ' 0.0    0.0 .* queues, '
}

# While it is owned; then told twice to end, and run again.
test_interrupted() {
    dassie 0 add --queue i --attempts 1 x
    id=$(sed 's/job //' "$dir/out")
    # shellcheck disable=SC2016
    start "$dir/long" run -q i -- sh -c 'echo begun; exec sleep 1000'
    wait_for at_least 1 begun "$dir/long" || fail 'run runs nothing'
    look_at_live "$id"
    copy_live
    "$tool" -d "$store" tail -q tailed --json >"$dir/events" &
    tail=$!
    until_told
    until_rated
    steer_live
    add_wide
    kill -TERM "$pid"
    end_with TERM
    wait "$tail" || fail "tail: status $? when its owner ends"
    tail=
    [ $status -eq 143 ] || fail "run after two SIGTERM: status $status"
    dassie 0 show --json "$id"
    prints '"state":"scheduled",.*"attempts":1,"excused":1,'
    run 0 -q i -- true
    dassie 0 show --json "$id"
    prints '"state":"complete"'
}

# Cancels three jobs at a terminal, up to the question.
until_asked() {
    dassie 0 add --queue q a b c
    script -qec "'$tool' -d '$store' cancel --queue q" /dev/null \
        <"$dir/fifo" >"$dir/answer" 2>&1 &
    tail=$!
    exec 9>"$dir/fifo"
    wait_for grep -q 'Go on' "$dir/answer" || fail 'cancel does not ask'
}

say_yes() {
    echo y >&9
    wait "$tail" || fail "cancel: status $? after a yes"
    tail=
    exec 9>&-
    cp "$dir/answer" "$dir/out"
    prints '^3 jobs cancelled'
}

begin_owner() {
    start "$dir/owner" run --queue other --follow -- true
    wait_for test -S "$store/admin" || fail 'run does not listen'
}

# Whoever owns the store when the question is answered is asked, or nobody.
test_asked() {
    store=$dir/asked
    mkfifo "$dir/fifo"
    dassie 0 add one
    until_asked
    begin_owner
    say_yes
    until_asked
    end_with TERM
    say_yes
    rm "$dir/fifo"
    store=$dir/store
}

# As nohup has it.
test_ignored() {
    dassie 0 add --queue n one two
    # shellcheck disable=SC2016
    (trap '' HUP && run 0 -q n -- sh -c 'kill -HUP $PPID')
    says '^dassie: 2 complete, 0 failed$'
}

# An owner that does not listen, as the path of its socket is too long.
test_beside() {
    store=$dir/$(printf '%0100d' 0)/store
    mkdir "${store%/store}"
    mkfifo "$dir/fifo"
    dassie 0 add -q b one
    dassie 0 add two
    start "$dir/beside" run -q b -- sh -c "echo begun; cat $dir/fifo"
    wait_for at_least 1 begun "$dir/beside" || fail 'run runs nothing'
    wait_for at_least 1 'nobody can look meanwhile: ' "$dir/err" ||
        fail 'it can be asked'
    before=$(digest)
    dassie 0 ls
    prints '^ *1  running .* one$'
    prints '^ *2  pending .* two$'
    dassie 0 stat --json
    prints '"jobs":{"pending":1,"scheduled":0,"running":1,'
    dassie 0 show 1
    prints '^one$'
    dassie 3 show 99
    [ "$before" = "$(digest)" ] || fail 'to look has changed an owned store'
    [ -z "$(ls "$dir/scratch")" ] || fail 'a scratch directory is left'
    for each in 'add x' 'cancel 1' 'pause default' 'tail' 'verify' \
        'backup copy' 'run -- true'; do
        # shellcheck disable=SC2086
        dassie 4 $each
    done
    : >"$dir/fifo"
    wait "$pid" || fail 'run: it was disturbed'
    pid=
    dassie 0 verify
    prints ', 2 jobs: 0 problems$'
}

# Each run leaves a file for each line that it has worked on.
start_lines() {
    mkdir "$dir/$1"
    (cd "$dir/$1" && exec "$tool" -d "$store" run --lines "$dir/lines" -j 4 \
        -v -- touch -- '{}' >"$dir/$1.out" 2>"$dir/err") &
    pid=$!
}

# The ids that a run has reported as done.
reported() {
    sed -n 's/^job \([0-9]*\) complete$/\1/p' "$dir/$1.out" | sort
}

# check_runs RUN EARLIER...: what an earlier one has reported as done, this one
# has not done again.
check_runs() {
    run=$1
    shift
    find "$dir/$run" -type f | sed 's,.*/,,' | sort >"$dir/touched"
    [ -s "$dir/touched" ] || fail "run: $run does nothing"
    for earlier in "$@"; do
        reported "$earlier" | comm -12 "$dir/touched" - >"$dir/out"
        [ ! -s "$dir/out" ] || fail "run: $run does again what $earlier did"
    done
}

# What is looked at after a kill stands as the kill left it.
look_at_killed() {
    killed=$(digest)
    for look in stat ls 'ls --state running' verify stat; do
        # shellcheck disable=SC2086
        "$tool" -d "$store" $look >"$dir/out" 2>"$dir/err" ||
            fail "dassie $look after a kill"
    done
    [ "$killed" = "$(digest)" ] || fail 'to look has changed a killed store'
}

# kill_run RUN: once some of the lines have been reported in it.
kill_run() {
    first=$((lines / 4 < 5000 ? lines / 4 : 5000))
    start_lines "$1"
    wait_for at_least "$first" complete "$dir/$1.out" ||
        fail "run: nothing is complete in $1"
    end_with KILL
    [ $status -eq 137 ] || fail "run: it has ended before the kill: $status"
    look_at_killed
}

test_killed() {
    store=$dir/killed
    seq "$lines" >"$dir/lines"
    kill_run run1
    kill_run run2
    check_runs run2 run1
    start_lines run3
    status=0
    wait "$pid" || status=$?
    pid=
    [ $status -eq 0 ] || fail "run: status $status after two kills"
    check_runs run3 run1 run2
    find "$dir/run1" "$dir/run2" "$dir/run3" -type f | sed 's,.*/,,' |
        sort -n | uniq | cmp - "$dir/lines" || fail 'run: not each line'
    dassie 0 stat --json
    prints "\"running\":0,\"complete\":$lines,\"failed\":0"
    run 0 --lines "$dir/lines" -- false
    says '^dassie: 0 complete, 0 failed$'
    echo "$lines lines; reported as done:" "$(reported run1 | wc -l)," \
        "$(reported run2 | wc -l)" "and $(reported run3 | wc -l)"
}

test_add_and_look
test_pages
test_slow_input
test_unique
test_backup
test_steer
test_usage
test_stores
test_output
test_completion
test_run
test_interrupted
test_asked
test_ignored
test_beside
test_killed
