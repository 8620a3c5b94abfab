#!/usr/bin/env bash
# Puts Waygate onto a machine with systemd, or a newer one in the place of an older one: the program, its user, its units, the stanza of
# logrotate, and a key. What is configured already stays as it is: the units lie where those in /etc/systemd/system go before them.
# uninstall.sh takes it away again.
set -euo pipefail
# Of root's own, which may be stricter, nobody but root could go into the folders that are made.
umask 022

usage() {
    cat <<'TEXT'
Usage: packaging/install.sh [--program FILE] [--root FOLDER] [--no-start]

  --program FILE   the program (default: target/release/waygate-mcp)
  --root FOLDER    put everything below FOLDER, as for a package or an image; makes no user and starts nothing
  --no-start       make the units known, and neither enable, start nor restart them
  --help           this text

It makes /usr/local/bin/waygate-mcp, the user waygate, /etc/waygate/waygate.env with a new key (if there is none), the units
waygate-mcp.service and waygate-mcp.socket in /usr/local/lib/systemd/system, and /etc/logrotate.d/waygate (if there is none). Run it
again to upgrade: the socket stays bound meanwhile, nobody is refused, and what was disabled or stopped stays so.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$here/../target/release/waygate-mcp root='' start=true
say() { echo "install.sh: $*" >&2; }

while (($#)); do
    case $1 in
    --program | --root)
        [[ -n ${2:-} ]] || { say "$1 wants a path; see --help"; exit 2; }
        if [[ $1 == --root ]]; then root=$(mkdir -p "$2" && cd "$2" && pwd); else program=$2; fi
        shift
        ;;
    --no-start) start=false ;;
    --help | -h) usage && exit 0 ;;
    *) say "there is no option $1; see --help" && exit 2 ;;
    esac
    shift
done

[[ -z $root ]] || start=false
[[ -x $program && ! -d $program ]] || { say "there is no program $program; build it (cargo build --release) or name it with --program"; exit 1; }
if [[ -z $root ]]; then
    [[ $(id -u) == 0 ]] || { say "this changes the system: run it as root, or with --root"; exit 77; }
    # Its commands may be installed where something else is the first process.
    [[ -d /run/systemd/system ]] && command -v systemctl >/dev/null || { say "systemd does not run this machine; scripts/waygate-ctl does without"; exit 1; }
fi

# put <mode> <file> <place>: whole or not at all, since the program may be running and logrotate reading.
put() {
    local to=$root$3
    mkdir -p "$(dirname "$to")"
    install -m "$1" "$2" "$to.new"
    mv -f "$to.new" "$to"
}

upgrade=false
[[ ! -e $root/usr/local/bin/waygate-mcp ]] || upgrade=true
put 0755 "$program" /usr/local/bin/waygate-mcp
for unit in waygate-mcp.service waygate-mcp.socket; do
    put 0644 "$here/systemd/$unit" "/usr/local/lib/systemd/system/$unit"
    own=$root/etc/systemd/system/$unit
    [[ ! -e $own ]] || say "$own goes before the new /usr/local/lib/systemd/system/$unit; compare them, or remove it"
done
if [[ ! -e $root/etc/logrotate.d/waygate ]]; then
    put 0644 "$here/logrotate" /etc/logrotate.d/waygate
elif ! cmp -s "$here/logrotate" "$root/etc/logrotate.d/waygate"; then
    say "$root/etc/logrotate.d/waygate stays as it is, and is not $here/logrotate"
fi

if [[ -z $root ]] && ! id waygate >/dev/null 2>&1; then
    useradd --system --user-group --home-dir /var/lib/waygate --shell /usr/sbin/nologin waygate
fi

# Written by root, and read by systemd and by the verbs, which run as waygate.
environment=$root/etc/waygate/waygate.env
[[ -d $root/etc/waygate ]] || install -d -m 0755 "$root/etc/waygate"
if [[ -e $environment ]]; then
    say "$environment stays as it is"
else
    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    (
        umask 077
        printf '%s\n' '# Settings of Waygate, a WAYGATE_ variable a line; `waygate-mcp config schema` lists them. The service reads them, and' \
            '# verbs do with --env-file /etc/waygate/waygate.env.' \
            WAYGATE_ENV=production WAYGATE_DATA_DIR=/var/lib/waygate "WAYGATE_API_KEY=$key" >"$environment.new"
    )
    [[ -n $root ]] || chgrp waygate "$environment.new"
    chmod 0640 "$environment.new"
    mv "$environment.new" "$environment"
    say "a new key is in $environment; who calls sends it as Authorization: Bearer KEY"
fi

[[ -z $root ]] || { say "everything is below $root; in place it wants a user waygate, and chgrp waygate /etc/waygate/waygate.env"; exit 0; }
runuser -u waygate -- test -r "$environment" ||
    say "verbs cannot read $environment: chgrp waygate $environment; chmod 0640 $environment; chmod 0755 /etc/waygate"
systemctl daemon-reload
if $start && ! $upgrade; then
    systemctl enable --quiet waygate-mcp.socket waygate-mcp.service
    systemctl start waygate-mcp.socket
fi
# At an upgrade what was stopped stays so.
is_up() { systemctl is-active --quiet waygate-mcp.socket || systemctl is-active --quiet waygate-mcp.service; }
if $start && is_up; then
    systemctl restart waygate-mcp.service
    say "it serves: systemctl status waygate-mcp; sudo -u waygate waygate-mcp status --env-file $environment"
else
    say "start it with: systemctl enable --now waygate-mcp.socket waygate-mcp.service"
fi
