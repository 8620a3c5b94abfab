#!/usr/bin/env bash
# Makes a backup, looks through it and removes old ones: for cron, which mails what is said when something fails.
#
# Says nothing when all is well, unless it is asked to; ends with the exit code of what failed.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/backup.sh [--keep-days DAYS] [--keep-min COUNT] [--passphrase-file FILE] [--drill] [--verbose]
                         [--program FILE] [-- <flag of waygate-mcp> ...]

  --keep-days DAYS        remove backups that are older (default: the setting backup.keep_days)
  --keep-min COUNT        so many of the newest stay however old they are (default: 1)
  --passphrase-file FILE  include .env and the sealing key, encrypted with this passphrase
  --drill                 restore the new backup into scratch instead of only looking through it
  --program FILE          the program, should waygate-mcp not be in the PATH
  --verbose               say what is done also when all is well
  --help                  this text

What stands behind -- goes to each call of waygate-mcp, as `-- --data-dir /srv/waygate`. WAYGATE_BACKUP_DIR and all other
settings count as they do for the server.

Exit codes: 0 all done, 2 a wrong option, else that of the command that failed (see `waygate-mcp help backup`).
TEXT
}

wrong() {
    echo "backup.sh: $*; see --help" >&2
    exit 2
}

program=waygate-mcp prune=() secret=() flags=() drill=false verbose=false
while [[ $# -gt 0 ]]; do
    case $1 in
    --keep-days | --keep-min)
        [[ ${2:-} =~ ^[0-9]+$ ]] || wrong "$1 takes a number"
        prune+=("$1" "$2") && shift
        ;;
    --passphrase-file)
        [[ -n ${2:-} ]] || wrong "$1 takes a file"
        secret=("$1" "$2") && shift
        ;;
    --program)
        [[ -n ${2:-} ]] || wrong "$1 takes a file"
        program=$2 && shift
        ;;
    --drill) drill=true ;;
    --verbose) verbose=true ;;
    --help | -h) usage && exit 0 ;;
    --) shift && flags=("$@") && break ;;
    *) wrong "there is no option $1" ;;
    esac
    shift
done

command -v "$program" >/dev/null || wrong "there is no program $program; name it with --program"

# What one of them says is told when it fails, or when it is asked for.
run() {
    local said code=0
    said=$("$program" "$@" "${flags[@]}" 2>&1) || code=$?
    if [[ $code != 0 ]] || $verbose; then
        printf '%s\n' "$said" >&2
    fi
    [[ $code == 0 ]] || { echo "backup.sh: \`$program $1 $2\` ended with $code" >&2 && exit "$code"; }
}

run backup create "${secret[@]}"
if $drill; then
    run backup drill "${secret[@]}"
else
    run backup verify latest "${secret[@]}"
fi
run backup prune "${prune[@]}"
