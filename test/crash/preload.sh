# For scripts that preload a library: a part of each of them.
#
# can_preload LIBRARY: ends the script as skipped where that cannot be loaded
# before all others.
# shellcheck shell=sh
can_preload() {
    case ${SANITIZE_FLAGS:-} in
    *address* | *thread* | *memory* | *leak*)
        echo "skipped: a sanitizer's library has to be the first that is loaded"
        exit 77
        ;;
    esac
    [ -e "$1" ] || {
        echo "skipped: $1 is not built (--disable-shared)"
        exit 77
    }
}
