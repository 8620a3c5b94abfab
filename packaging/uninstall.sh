#!/usr/bin/env bash
# Takes away what install.sh made. Data, configuration and keys stay, unless it is told to take them, too.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: packaging/uninstall.sh [--root FOLDER] [--purge]

  --root FOLDER   what was put below FOLDER
  --purge         take data, history, backups, configuration, keys and the user away, too: nothing brings them back
  --help          this text
TEXT
}

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
        for unit in waygate.socket waygate.service; do
            [[ ! -e /etc/systemd/system/$unit ]] || systemctl disable --quiet --now "$unit"
        done
    fi
fi

rm -f "$root"/etc/systemd/system/waygate.{service,socket} "$root/etc/logrotate.d/waygate" "$root/usr/local/bin/waygate-mcp"
[[ -n $root ]] || ! command -v systemctl >/dev/null || systemctl daemon-reload

if $purge; then
    rm -rf "$root/var/lib/waygate" "$root/etc/waygate"
    if [[ -z $root ]] && id waygate >/dev/null 2>&1; then userdel waygate; fi
    say "it is gone, and all that it knew"
else
    say "it is gone; $root/var/lib/waygate and $root/etc/waygate stay, until --purge"
fi
