#!/bin/sh
# crawl-demo.sh BUILD_DIR: crawls 10,000 URLs (or DEMO_URLS), five at a time,
# is killed with SIGKILL after a fifth of them, starts again, and counts what
# came in. It needs busybox, whose httpd serves the pages and takes the posts on
# 127.0.0.1. Exit status: 0 every URL came in, 1 not, 2 it could not be tried.
set -eu

usage='usage: crawl-demo.sh BUILD_DIR'
build=${1:?"$usage"}
urls=${DEMO_URLS:-10000}
crawl=$build/samples/crawl
server=
crawler=

die() {
    echo "crawl-demo: $*" >&2
    exit 2
}

cleanup() {
    [ -z "$crawler" ] || kill -KILL "$crawler" 2>/dev/null || :
    [ -z "$server" ] || kill "$server" 2>/dev/null || :
    wait
    rm -rf "$dir"
}

# ---- The server -------------------------------------------------------------

make_site() {
    mkdir -p "$dir/www/cgi-bin" "$dir/www/pages"
    echo "$dir" >"$dir/www/whose"
    i=0
    while [ $i -lt "$urls" ]; do
        i=$((i + 1))
        echo "This is page $i." >"$dir/www/pages/$i.txt"
    done
    # Each post is one line, and one write appends it. Before the kill no more
    # than a fifth of them, and those under way, get an answer: so the crawl is
    # still in the middle of it however quick the machine is.
    cat >"$dir/www/cgi-bin/received" <<'CGI'
#!/bin/sh
IFS= read -r line
while [ -e "$RECEIVED.most" ] &&
    [ "$(wc -l <"$RECEIVED")" -ge "$(cat "$RECEIVED.most")" ]; do
    sleep 0.1
done
printf '%s\n' "$line" >>"$RECEIVED" &&
    printf 'Content-Type: text/plain\r\n\r\nthank you\n'
CGI
    chmod +x "$dir/www/cgi-bin/received"
    : >"$RECEIVED"
    echo $((urls / 5)) >"$RECEIVED.most"
}

# Whether our server answers at $port, within two seconds.
server_answers() {
    tries=20
    while [ $tries -gt 0 ]; do
        answer=$(busybox wget -q -O - "http://127.0.0.1:$port/whose" \
            2>/dev/null) || :
        [ "$answer" != "$dir" ] || return 0
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
        tries=$((tries - 1))
    done
    return 1
}

# Starts it at the first port that is free; sets server and port.
start_server() {
    port=$((20000 + $$ % 10000))
    last=$((port + 100))
    while [ $port -lt $last ]; do
        busybox httpd -f -p "127.0.0.1:$port" -h "$dir/www" 2>/dev/null &
        server=$!
        server_answers && return
        kill "$server" 2>/dev/null || :
        wait "$server" || :
        server=
        port=$((port + 1))
    done
    die 'the server does not start'
}

# ---- The crawl --------------------------------------------------------------

received() {
    wc -l <"$RECEIVED"
}

# Becomes the crawler, so that it has this process's id.
become_crawler() {
    exec "$crawl" -d "$dir/jobs" -c 5 "$dir/urls" \
        "http://127.0.0.1:$port/cgi-bin/received"
}

crawl_and_kill() {
    become_crawler &
    crawler=$!
    while [ "$(received)" -lt $((urls / 5)) ]; do
        kill -0 "$crawler" 2>/dev/null || die 'it ended before the kill'
        sleep 0.1
    done
    kill -KILL "$crawler" 2>/dev/null || die 'it ended before the kill'
    wait "$crawler" 2>/dev/null || :
    crawler=
    rm "$RECEIVED.most"
    echo "-- killed with SIGKILL after $(received) posts; starting again"
}

# What came in, and how often.
report() {
    cut -d ' ' -f 1 "$RECEIVED" | sort | uniq -c >"$dir/posts"
    awk '$1 > 1' "$dir/posts" | wc -l >"$dir/repeated"
    awk '{ print $2 }' "$dir/posts" >"$dir/got"
    sort "$dir/urls" | comm -23 - "$dir/got" >"$dir/missing"
    missing=$(wc -l <"$dir/missing")
    echo "-- received: $((urls - missing)) of $urls URLs," \
        "$(cat "$dir/repeated") of them more than once"
    echo '   (those under way at the kill, and those that had ended within' \
        'the last commit)'
    [ "$missing" -eq 0 ] || {
        echo "-- missing: $missing, the first is $(head -n 1 "$dir/missing")"
        exit 1
    }
}

[ -x "$crawl" ] || die "$crawl is not there (it needs libcurl)"
command -v busybox >/dev/null || die 'busybox is needed'
[ "$urls" -ge 10 ] || die 'DEMO_URLS is at least 10'
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY || :

dir=$(mktemp -d)
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
RECEIVED=$dir/received
export RECEIVED

echo "-- $urls pages on a server on 127.0.0.1"
make_site
start_server
i=0
while [ $i -lt "$urls" ]; do
    i=$((i + 1))
    echo "http://127.0.0.1:$port/pages/$i.txt"
done >"$dir/urls"

echo '-- crawling, five at a time'
crawl_and_kill
become_crawler &
crawler=$!
failed=0
wait "$crawler" || failed=$?
crawler=
report
[ $failed -eq 0 ] || exit $failed
