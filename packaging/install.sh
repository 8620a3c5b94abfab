#!/usr/bin/env bash
# Puts Waygate onto a machine with systemd, or a newer one in the place of an older one: the program, its user, its units, the stanza of
# logrotate, and a key. What is configured already stays as it is. uninstall.sh takes it away again.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: packaging/install.sh [--program FILE] [--root FOLDER] [--no-start]

  --program FILE   the program (default: target/release/waygate-mcp)
  --root FOLDER    put everything below FOLDER, as for a package or an image; makes no user and starts nothing
  --no-start       make the units known, and neither enable nor start them
  --help           this text

It makes /usr/local/bin/waygate-mcp, the user waygate, /etc/waygate/waygate.env with a new key (if there is none), the units
waygate.service and waygate.socket in /etc/systemd/system, and /etc/logrotate.d/waygate. Run it again to upgrade: the
socket stays bound meanwhile, and nobody is refused.
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
    command -v systemctl >/dev/null || { say "this machine has no systemd; scripts/waygate-ctl does without"; exit 1; }
fi

# put <mode> <file> <place>: whole or not at all, since the program may be running and logrotate reading.
put() {
    local to=$root$3
    mkdir -p "$(dirname "$to")"
    install -m "$1" "$2" "$to.new"
    mv -f "$to.new" "$to"
}

put 0755 "$program" /usr/local/bin/waygate-mcp
put 0644 "$here/waygate.service" /etc/systemd/system/waygate.service
put 0644 "$here/waygate.socket" /etc/systemd/system/waygate.socket
put 0644 "$here/logrotate" /etc/logrotate.d/waygate

if [[ -z $root ]] && ! id waygate >/dev/null 2>&1; then
    useradd --system --user-group --home-dir /var/lib/waygate --shell /usr/sbin/nologin waygate
fi

# Read by systemd as root, and by nobody else.
environment=$root/etc/waygate/waygate.env
mkdir -p "$root/etc/waygate"
if [[ -e $environment ]]; then
    say "$environment stays as it is"
else
    key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077 && printf '# Settings of Waygate, a WAYGATE_ variable a line; `waygate-mcp config schema` lists them.\nWAYGATE_API_KEY=%s\n' "$key" >"$environment.new")
    mv "$environment.new" "$environment"
    say "a new key is in $environment; who calls sends it as Authorization: Bearer KEY"
fi

[[ -z $root ]] || { say "everything is below $root; in place it wants a user waygate"; exit 0; }
systemctl daemon-reload
if $start; then
    systemctl enable --quiet waygate.socket waygate.service
    systemctl start waygate.socket
    systemctl restart waygate.service
    say "it serves: systemctl status waygate; sudo -u waygate waygate-mcp status --data-dir /var/lib/waygate"
else
    say "start it with: systemctl enable --now waygate.socket waygate.service"
fi
