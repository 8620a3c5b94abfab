#!/usr/bin/env bash
# Takes away what install.sh made. Data, configuration, keys and what was changed of it stay, unless it is told to take them, too.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: packaging/uninstall.sh [--root FOLDER] [--purge]

  --root FOLDER   what was put below FOLDER
  --purge         take data, history, backups below /var/lib/waygate, configuration, keys, changes to the units and the
                  user away, too: nothing brings them back
  --help          this text
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root='' purge=false
say() { echo "uninstall.sh: $*" >&2; }

while (($#)); do
    case $1 in
    --root)
        [[ -d ${2:-} ]] || { say "--root wants a folder; see --help"; exit 2; }
        root=$(cd "$2" && pwd)
        shift
        ;;
    --purge) purge=true ;;
    --help | -h) usage && exit 0 ;;
    *) say "there is no option $1; see --help" && exit 2 ;;
    esac
    shift
done

if [[ -z $root ]]; then
    [[ $(id -u) == 0 ]] || { say "this changes the system: run it as root, or with --root"; exit 77; }
    if command -v systemctl >/dev/null; then
        # Calls in flight have their time. The socket first, or it would start the service again.
        for unit in waygate-mcp.socket waygate-mcp.service; do
            systemctl cat "$unit" >/dev/null 2>&1 || continue
            systemctl disable --quiet --now "$unit"
        done
    fi
fi

# Where they may have been put; other backups than those in the data folder are nobody's to remove but the operator's.
backups=$(sed -n 's/^ *\(export  *\)\{0,1\}WAYGATE_BACKUP_DIR=["'\'']\{0,1\}\([^"'\'']*\).*/\2/p' "$root/etc/waygate/waygate.env" 2>/dev/null | tail -n 1) || true
units=$root/etc/systemd/system
rm -f "$root"/usr/local/lib/systemd/system/waygate-mcp.{service,socket} "$root/usr/local/bin/waygate-mcp"
if cmp -s "$here/logrotate" "$root/etc/logrotate.d/waygate"; then rm -f "$root/etc/logrotate.d/waygate"; fi

if $purge; then
    rm -rf "$units"/waygate-mcp.{service,socket} "$units"/waygate-mcp.{service,socket}.d "$root/etc/logrotate.d/waygate"
    rm -rf "$root/var/lib/waygate" "$root/etc/waygate"
fi
[[ -n $root ]] || ! command -v systemctl >/dev/null || systemctl daemon-reload
if $purge; then
    if [[ -z $root ]] && id waygate >/dev/null 2>&1; then
        userdel waygate || say "the user waygate stays, as long as a process of its own runs: see pgrep -u waygate -a, then userdel waygate"
    fi
    say "it is gone, with $root/var/lib/waygate and $root/etc/waygate; a database elsewhere and backups elsewhere${backups:+, as in $backups,} stay"
else
    for kept in "$units"/waygate-mcp.{service,socket} "$units"/waygate-mcp.{service,socket}.d "$root/etc/logrotate.d/waygate"; do
        [[ ! -e $kept ]] || say "$kept stays, until --purge"
    done
    say "it is gone; $root/var/lib/waygate and $root/etc/waygate stay, until --purge"
fi
