# dassie.bash: completion of dassie(1) for bash. What can be completed, the
# command itself tells: its help, and the names of queues of the store.

# Subcommands, or the options of one.
_dassie_words() {
    if [[ -z $1 ]]; then
        dassie --help 2>/dev/null | sed -n 's/^  \([a-z]\{1,\}\) .*/\1/p'
    else
        dassie "$1" --help 2>/dev/null |
            sed -n 's/^  .\{4\}\(--[a-z-]\{1,\}\).*/\1/p'
    fi
}

_dassie_queues() {
    dassie ${1:+-d "$1"} stat 2>/dev/null |
        sed -n '1d; $d; s/ (paused)$//; s/^.*  \([^ ]*\)$/\1/p'
}

# The subcommand and the store among the words before the cursor: sets sub, dir.
_dassie_scan() {
    local i
    sub='' dir=''
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -d | --dir)
            dir=${COMP_WORDS[++i]}
            ;;
        -*) ;;
        *)
            sub=${COMP_WORDS[i]}
            return
            ;;
        esac
    done
}

_dassie() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local sub dir words=''
    _dassie_scan
    case $prev in
    -d | --dir)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --lines | --file)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    -s | --state) words='pending scheduled running complete failed cancelled' ;;
    -q | --queue) words=$(_dassie_queues "$dir") ;;
    -p | --payload) [[ $sub != show ]] || words='text hex raw' ;;
    *)
        if [[ -z $sub && $cur == -* ]]; then
            words='--dir --help --version'
        elif [[ -z $sub || $cur == -* ]]; then
            words=$(_dassie_words "$sub")
        elif [[ $sub == pause || $sub == resume ]]; then
            words=$(_dassie_queues "$dir")
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -o default -F _dassie dassie
