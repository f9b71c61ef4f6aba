#!/bin/sh
# "dassie verify --repair" as a user runs it: on a store that is sound, damaged,
# owned, and just killed; what is saved, what is kept, and that the command and
# its owners work on what has become of it.
set -eu

: "${srcdir:=.}"
# shellcheck source=test/tool.sh
. "$srcdir/test/tool.sh"

# In the middle of the largest file of that kind, so that there is something
# else before and behind.
damage() {
    file=$(find "$store/db" -name "*.$1" -size +4k -exec ls -S {} + |
        head -n 1)
    [ -n "$file" ] || fail "no file .$1 is large enough"
    size=$(wc -c <"$file")
    printf 'damaged!' | dd of="$file" bs=1 seek=$((size / 2)) conv=notrunc \
        2>"$dir/err" || fail "$file: cannot be damaged"
}

# is_damaged STATUS PATTERN
is_damaged() {
    before=$(digest)
    dassie "$1" verify
    prints "$2"
    ! grep -q 'job [0-9]*: job ' "$dir/out" || fail 'an id is told twice'
    [ "$before" = "$(digest)" ] || fail 'verify has changed the store'
}

kept() {
    find "$store" -name 'db.damaged-*' | wc -l
}

# Nothing is done.
test_sound() {
    seq 1 2000 >"$dir/lines"
    dassie 0 add --lines "$dir/lines"
    dassie 0 add --queue other one
    before=$(digest)
    dassie 0 verify --repair
    prints ', 2001 jobs: 0 problems$'
    [ "$(wc -l <"$dir/out")" -eq 1 ] || fail 'a sound store is repaired'
    dassie 0 verify --repair --json
    prints '"pending":2001,.*"problems":\[\]}$'
    [ "$before" = "$(digest)" ] || fail 'a repair has changed a sound store'
}

# What is in a block is lost; all else is there, under the same ids, and the
# damaged files are.
test_table() {
    damage sst
    sum=$(cksum "$file" | cut -d ' ' -f 1-2)
    is_damaged 5 'checksum mismatch'
    dassie 0 verify --repair
    prints '^repair: .*rows of jobs from [0-9]* to [0-9]* cannot be read'
    prints '^repair: .* [0-9]* jobs are saved, 0 of them were or may have been'
    prints '^repair: .* the damaged database is kept: db.damaged-1$'
    saved=$(sed -n 's/^[0-9]* rows, \([0-9]*\) jobs: 0 problems$/\1/p' \
        "$dir/out")
    [ "$saved" -gt 1000 ] || fail "$saved jobs of 2001 are left"
    [ "$saved" -lt 2001 ] || fail 'nothing was damaged'
    [ "$sum" = "$(cksum "$store/db.damaged-1/${file##*/}" |
        cut -d ' ' -f 1-2)" ] || fail 'the damaged file is not kept as it was'
    dassie 0 show 1
    prints '^1$'
    dassie 0 show 2001
    prints '^queue     other$'
    dassie 0 ls --limit 0 --json
    [ "$(wc -l <"$dir/out")" -eq "$saved" ] || fail 'ls: other jobs'
    sed -n 's/.*"id":\([0-9]*\),.*"data":"\([0-9]*\)".*/\1 \2/p' "$dir/out" |
        while read -r id payload; do
            [ "$id" = "$payload" ] || fail "job $id has the payload $payload"
        done
    dassie 0 add more
    [ "$(sed 's/job //' "$dir/out")" -gt 2001 ] || fail 'an id is given twice'
    dassie 0 verify
}

# Twice, and told as JSON.
test_again() {
    cp -R "$store" "$dir/sound"
    rm -rf "$dir/sound/db.damaged-1"
    damage sst
    dassie 0 verify --repair --json
    prints '"problems":\[{"id":.*"repair":\[{"line":"salvage: '
    prints '"after":{"jobs":{"pending":[0-9]*,.*"problems":\[\]}}$'
    [ "$(wc -l <"$dir/out")" -eq 1 ] || fail 'JSON: not one line'
    [ "$(kept)" -eq 2 ] || fail 'not each damaged database is kept'
    rm -rf "$store"
    mv "$dir/sound" "$store"
    dassie 0 verify
}

# Its owner is not disturbed, and nobody repairs a store in use.
test_live() {
    mkfifo "$dir/fifo"
    start "$dir/run" run -f -q other -- \
        sh -c "echo begun; cat $dir/fifo"
    wait_for at_least 1 begun "$dir/run" || fail 'run runs nothing'
    dassie 4 verify --repair
    says ': resource busy or locked$'
    dassie 0 verify
    [ "$(kept)" -eq 0 ] || fail 'a store in use was repaired'
}

# What runs is killed; the log has it.
test_killed() {
    seq 1 2000 >"$dir/lines"
    dassie 0 add --queue live --lines "$dir/lines"
    end_with KILL
    before=$(digest)
    dassie 0 verify --repair
    [ "$before" = "$(digest)" ] || fail 'a kill is no damage'
    damage log
    is_damaged 5 ' jobs: [1-9][0-9]* problems$'
    dassie 0 verify --repair
    prints '^repair: .* the damaged database is kept: db.damaged-1$'
    prints ' jobs: 0 problems$'
    dassie 0 verify
    dassie 0 stat --json
    prints '"running":0,'
    : >"$dir/fifo" # what the kill has left of it
    "$tool" -d "$store" run -q other -- true 2>"$dir/err" || fail 'run'
    says '^dassie: 1 complete, 0 failed$'
}

# What is no store is none after it, either.
test_no_store() {
    store=$dir/nowhere
    dassie 3 verify --repair
    mkdir "$dir/nowhere"
    echo something >"$dir/nowhere/else"
    dassie 5 verify --repair
    [ "$(ls "$dir/nowhere")" = else ] || fail 'something was made of it'
    dassie 2 verify --repair now
}

test_sound
test_table
test_again
test_live
test_killed
test_no_store
