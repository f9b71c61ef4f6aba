#!/bin/sh
# Layers call downwards only, and each keeps away from what is not its own.
set -eu

# LAYER: FILES, the top one first. A file includes headers of its own layer and
# of those below it. Without .c and .h.
layers() {
    cat <<'LAYERS'
api: admin admin_ask connection dassie enqueue operate process progress subscribe query inspect testing impl
api: runner
engine: engine apply events reader runs pool survey backup beside
engine: verify verify_counts verify_job verify_keys verify_read salvage
engine: salvage_rows salvage_log
core: admit change core limit look look_info processor recorder timeout waiter dir
store: store claims expire find load refill rebuild rebuild_jobs rebuild_keys rebuild_load rebuild_rows rebuild_sweep save schedule sweep turn unique queue job meter metrics
kv: kv kv_mem kv_rocks kv_rocks_db wal table logfile
pure: state retry record varint key wire
base: error env clock alloc lock exit heap
LAYERS
}

# FILES or LAYERS: TEXT, an extended regular expression that no line of theirs
# may match. "but" leaves out what follows it.
rules() {
    cat <<'RULES'
api engine core store kv pure base but kv_rocks kv_rocks_db: #include <rocksdb/
core store: #include "kv_(mem|rocks|rocks_db)[.]h"
core store kv pure: (^|[^a-z_])uv_(loop|run|close|async|timer|queue_work|thread|mutex|rwlock|cond|sem)[a-z_]*[(]
api engine: dassie__env[.](wall_ms|mono_ns)[(]
pure: #include <uv[.]h>
pure: (^|[^a-z_])(clock_gettime|time|malloc|calloc|realloc|free|dassie__[a-z]*alloc)[(]
RULES
}

cd "${srcdir:=.}/lib"
{
    layers
    echo rules
    rules
    echo files
    grep -n '' ./*.[ch]
} | awk '
    function complain(text) {
        print text
        bad = 1
    }

    $0 == "rules" || $0 == "files" {
        part = $0
        next
    }

    part == "" {
        layer = $1
        sub(/:$/, "", layer)
        depth++
        for (i = 2; i <= NF; i++) {
            depth_of[$i] = depth
            members[layer] = members[layer] " " $i
        }
        next
    }

    part == "rules" {
        at = index($0, ": ")
        text[++rules] = substr($0, at + 2)
        n = split(substr($0, 1, at - 1), word, " ")
        applies = 1
        for (i = 1; i <= n; i++) {
            if (word[i] == "but")
                applies = 0
            m = split(word[i] in members ? members[word[i]] : word[i], file, " ")
            for (j = 1; j <= m; j++)
                rule[rules, file[j]] = applies
        }
        next
    }

    # A line of a file: ./NAME.c:NUMBER:TEXT
    {
        match($0, /^[^:]*:[^:]*:/)
        place = "lib/" substr($0, 3, RLENGTH - 2)
        line = substr($0, RLENGTH + 1)
        name = substr($0, 3)
        sub(/[.].*/, "", name)
    }

    !(name in depth_of) {
        if (!told[name]++)
            complain("lib/" name " has no layer; name it in layers()")
        next
    }

    # dassie.h is the public header, not that of dassie.c.
    line ~ /^#include "/ {
        header = line
        gsub(/^#include "|[.]h".*/, "", header)
        if (header != "dassie" && header in depth_of &&
            depth_of[header] < depth_of[name])
            complain(place " " line " is a layer above")
    }

    {
        for (i = 1; i <= rules; i++)
            if (rule[i, name] && line ~ text[i])
                complain(place " " line " matches " text[i])
    }

    END { exit bad }
'
