#!/bin/sh
# The command dassie on a terminal, which test/terminal/terminal is: colours,
# progress, questions; and that nothing of it is in a pipe.
set -eu

: "${srcdir:=.}" "${top_builddir:=.}"
LC_ALL=C
TERM=xterm
export LC_ALL TERM
unset DASSIE_DIR NO_COLOR || :

builddir=$(cd "$top_builddir" && pwd)
tool=$builddir/tools/dassie
terminal=$builddir/test/terminal/terminal
[ -x "$tool" ] || {
    echo 'the command was not built, as there is no jansson'
    exit 77
}

dir=$(mktemp -d)
store=$dir/store
: >"$dir/pids"

# Those that a kill has left behind, or a test that ends early.
cleanup() {
    while read -r pid; do
        kill -KILL "$pid" 2>/dev/null || :
    done <"$dir/pids"
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Ends the test: what is wrong, and the output that shows it.
fail() {
    echo "$1"
    for file in "$dir/out" "$dir/err"; do
        echo "== ${file##*/}"
        cat -v "$file" || :
    done
    exit 1
}

# on_terminal ROWS COLS ARGUMENT... <SCRIPT
on_terminal() {
    rows=$1 cols=$2
    shift 2
    "$terminal" "$rows" "$cols" "$tool" -d "$store" "$@" \
        >"$dir/out" 2>"$dir/err" || fail "dassie $* on a terminal"
}

# in_pipe STATUS ARGUMENT...: neither stream has a byte that a terminal obeys.
in_pipe() {
    wanted=$1 status=0
    shift
    "$tool" -d "$store" "$@" >"$dir/out" 2>"$dir/err" </dev/null || status=$?
    [ $status -eq "$wanted" ] || fail "dassie $*: status $status"
    if cat "$dir/out" "$dir/err" | LC_ALL=C tr -d '\n' | grep -q '[[:cntrl:]]'
    then
        fail "dassie $*: something for a terminal in a pipe"
    fi
}

# A job in each state but running.
fill() {
    in_pipe 0 add --queue work --attempts 1 good
    in_pipe 0 run -q work -- true
    in_pipe 0 add --queue work --attempts 1 bad
    in_pipe 1 run -q work -- sh -c 'echo so bad >&2; exit 7'
    in_pipe 0 add --queue work dropped
    in_pipe 0 cancel 3
    in_pipe 0 add --queue work waits
    in_pipe 0 add --queue later --delay 1h later
}

test_colour() {
    on_terminal 24 80 ls <<END
colour 32 complete
colour 31 failed
colour 33 cancelled
colour 0 pending
colour 0 scheduled
colour 0 bad
end 0
END
    on_terminal 24 80 show 2 <<END
colour 31 failed
end 0
END
    for plain in NO_COLOR=1 TERM=dumb TERM=; do
        "$terminal" 24 80 env "$plain" "$tool" -d "$store" ls >"$dir/out" <<END ||
colour 0 complete
colour 0 failed
end 0
END
            fail "colours with $plain"
    done
    for each in ls 'show 1 2 3' stat 'purge --dry-run' 'ls --json'; do
        # shellcheck disable=SC2086
        in_pipe 0 $each
    done
}

test_question() {
    on_terminal 24 80 purge --state cancelled <<END
wait Go on? [y/N]
keys n\\r
end 1
END
    in_pipe 0 show 3
    on_terminal 24 80 purge --state cancelled <<END
wait Go on? [y/N]
colour 33 cancelled
keys y\\r
wait 1 job deleted
end 0
END
    in_pipe 3 show 3
    head -c 100 /dev/urandom >"$dir/bytes"
    in_pipe 0 add --queue bytes --file "$dir/bytes"
    on_terminal 24 80 show 6 --payload raw <<END
wait the payload is not for a terminal
end 2
END
}

# The jobs of other queues are not counted. The bar goes when others write, and
# at the end.
test_progress() {
    mkfifo "$dir/go"
    for each in 1 2 3 4; do
        in_pipe 0 add --queue bar --attempts 1 "$each"
    done
    on_terminal 24 80 run -q bar -- sh -c "
        [ {} != 3 ] || read go <$dir/go; [ {} != 2 ] || echo no >&2; [ {} != 2 ]
        " <<END
wait ]  50%  1 complete, 1 failed, 2 left
wait [====
colour 0 no
sh echo >$dir/go
gone left
wait dassie: 3 complete, 1 failed
end 1
END
    in_pipe 0 add --queue bar --attempts 1 5
    on_terminal 24 40 run -q bar -- sh -c "read go <$dir/go" <<END
wait 0 complete, 0 failed, 1 left
sh echo >$dir/go
wait dassie: 1 complete, 0 failed
end 0
END
    in_pipe 0 add --queue bar --attempts 1 6
    in_pipe 0 run -q bar -- sleep 0.6
}

# ---- top --------------------------------------------------------------------

# At rest and with an owner that comes, is killed, and comes again. What is
# waited for in one line is where it has to be.
test_top() {
    in_pipe 0 add --queue top --attempts 1 "payload $(printf '\001')" second
    start="$tool -d $store run -f -q top -- \
        sh -c 'echo \$\$ >>$dir/pids; exec sleep 1000' >$dir/owner 2>&1 &
        echo \$! >$dir/pid; cat $dir/pid >>$dir/pids"
    start=$(echo "$start" | tr '\n' ' ')
    on_terminal 24 80 top --interval 100ms <<END
wait dassie top: at rest, nobody owns it  $store
wait   PENDING SCHEDULED RUNNING  FAILED   IN/S  OUT/S WAITS  QUEUE
wait a second: - enqueued, - completed, - failed, - retried
colour 31 2 failed
wait         0         1       0       0      -      -     -  later
wait disk: 
wait q quit  1 queues  2 pending  3 scheduled  4 running  5 failed
show
sh $start
wait dassie top: live
colour 36 1 running
wait pool threads: 0 of 3 busy, 0 asked for
wait 0.0 enqueued, 0.0 completed
wait         1         0       1       0    0.0    0.0
keys 4
wait         ID   AGE RUN  QUEUE         NAME        PAYLOAD  (running)
wait   1  top           -           payload \\x01
gone later
keys 5
wait   1  work          -           so bad
keys 1
wait later
sh kill -STOP \$(cat $dir/pid)
wait the owner does not answer
sh kill -CONT \$(cat $dir/pid)
gone the owner does not answer
wait 0.0 enqueued, 0.0 completed
sh until [ \$(wc -l <$dir/pids) -eq 2 ]; do sleep 0.02; done
sh kill -KILL \$(cat $dir/pid)
wait dassie top: the owner has gone
wait dassie top: at rest
sh $start
wait dassie top: live
sh until [ \$(wc -l <$dir/pids) -eq 4 ]; do sleep 0.02; done
sh kill -TERM \$(cat $dir/pid)
sh kill -TERM \$(cat $dir/pid)
wait dassie top: the owner has gone
wait dassie top: at rest
keys q
end 0
END
}

# A window of any size, and back; each way to end it.
test_top_ends() {
    on_terminal 24 80 top <<END
wait at rest
size 11 80
wait too small
size 1 1
wait t
size 40 120
wait at rest
wait q quit
size 24 63
wait too small, q quits
keys q
end 0
END
    for number in 2 15 1; do
        on_terminal 24 80 top <<END
wait at rest
signal $number
end $((128 + number))
END
    done
    on_terminal 24 80 top <<END
wait at rest
keys $(printf '\003')
end 130
END
    "$terminal" 24 80 sh -c 'trap "" HUP; exec "$@"' sh "$tool" -d "$store" \
        top >"$dir/out" 2>"$dir/err" <<END || fail 'top without its terminal'
wait at rest
close
end 0
END
}

# vt100 has no colours, and NO_COLOR wants none.
test_top_terminals() {
    for plain in NO_COLOR=1 TERM=vt100; do
        "$terminal" 24 80 env "$plain" "$tool" -d "$store" top \
            >"$dir/out" 2>"$dir/err" <<END || fail "top with $plain"
wait at rest
colour 0 failed
keys q
end 0
END
    done
    "$terminal" 24 80 env TERM=none "$tool" -d "$store" top \
        >"$dir/out" 2>"$dir/err" <<END || fail 'top on no terminal'
wait dassie: top: no such terminal: TERM is 'none'
end 6
END
    in_pipe 2 top
    grep -q '^dassie: top needs a terminal' "$dir/err" || fail 'top in a pipe'
    in_pipe 2 top --json
    in_pipe 2 top --interval 10ms
    on_terminal 24 80 -d "$dir/none" top <<END
wait $dir/none: 
keys q
end 0
END
}

fill
test_colour
test_question
test_progress
if "$tool" top --help | grep -q without; then
    in_pipe 6 top
else
    test_top
    test_top_ends
    test_top_terminals
fi
