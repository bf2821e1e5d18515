#!/bin/sh
# Fetches the clients that the tests drive the engine with, and prints where they are. Nothing is installed: Debian's packages are
# unpacked into a folder of the user's cache, and what is there already is not fetched again.
#
#   packaging/clients.sh              fetch what is missing
#   packaging/clients.sh --where      only print the folder
#
#   FOLDER/now/docker                 Docker's command line of Debian unstable, and its plugins:
#   FOLDER/now/cli-plugins/           compose (version 2) and buildx
#   FOLDER/old/docker                 Docker's command line of Debian 12: 20.10
#   FOLDER/old/docker-compose         compose 1.29, on the Python that Debian 12 has
#   FOLDER/versions                   what was fetched
#
#   KITEPY_CLIENTS=…                  the folder (default: ~/.cache/kitepy/clients)
#   KITEPY_DEBIAN_MIRROR=…            Debian's archive (default: the one that apt uses on this machine, else deb.debian.org)
set -eu

recipe=2 # One more when what is fetched changes: older folders are then made anew.
folder=${KITEPY_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/kitepy/clients}
keyring=${KITEPY_DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}

say() { printf '%s\n' "kitepy: $*" >&2; }
die() { say "$*"; exit 1; }

if [ "${1:-}" = --where ]; then
    printf '%s\n' "$folder"
    exit 0
fi
if [ "$(sed -n 1p "$folder/versions" 2>/dev/null)" = "recipe $recipe" ]; then
    printf '%s\n' "$folder"
    exit 0
fi

for program in apt-get apt-cache dpkg-deb; do
    command -v "$program" >/dev/null 2>&1 || die "the clients for the tests come from Debian's packages, and $program is not here;" \
        "put what 'packaging/clients.sh' lists at its top into $folder, with \"recipe $recipe\" in $folder/versions."
done
[ -r "$keyring" ] || die "Debian's keys are not in $keyring: install debian-archive-keyring."

# The archive this machine uses, where it is a Debian; /etc/apt knows two formats.
mirror=${KITEPY_DEBIAN_MIRROR:-$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null |
    sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' | sed -n '\,/debian/*$,p' | sed -n 1p)}
mirror=${mirror:-http://deb.debian.org/debian}

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
apt=$work/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/parts" "$apt/debs"
for suite in bookworm sid; do echo "deb [signed-by=$keyring] $mirror $suite main"; done >"$apt/sources.list"
: >"$apt/status" # As if nothing were installed, so that dependencies are told in full.

from_debian() {
    program=$1
    shift
    "$program" -q -o "Dir::Etc::sourcelist=$apt/sources.list" -o "Dir::Etc::sourceparts=$apt/parts" -o "Dir::State::status=$apt/status" \
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o APT::Sandbox::User= -o APT::Default-Release=bookworm "$@"
}

# $1: release; $2: where to; then the packages
unpack() {
    release=$1 target=$2
    shift 2
    mkdir "$apt/debs/$release"
    # shellcheck disable=SC2046  # a list of names
    (cd "$apt/debs/$release" && from_debian apt-get download $(printf "%s/$release " "$@") >>"$apt/log" 2>&1) ||
        die "packages of Debian $release could not be fetched from $mirror: $(tail -n 1 "$apt/log")"
    for package in "$apt/debs/$release"/*.deb; do
        dpkg-deb -x "$package" "$target"
        dpkg-deb --show --showformat '${Package} ${Version}\n' "$package" >>"$work/packages"
    done
}

say "fetching Docker's command lines and composes for the tests, from $mirror into $folder"
from_debian apt-get update >"$apt/log" 2>&1 || die "Debian's list of packages could not be fetched from $mirror: $(tail -n 1 "$apt/log")"
! grep -q '^[WE]: Failed\|^Err' "$apt/log" || die "Debian's list of packages could not be fetched: $(grep '^[WE]:\|^Err' "$apt/log" | sed -n 1p)"

unpack sid "$work/sid" docker-cli docker-compose docker-buildx
python=$(from_debian apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    docker-compose/bookworm | grep -E '^(lib)?python3' | sort -u)
# shellcheck disable=SC2086  # a list of names
unpack bookworm "$work/bookworm" docker.io docker-compose $python

mkdir -p "$work/tree/now/cli-plugins" "$work/tree/old"
mv "$work/sid/usr/bin/docker" "$work/tree/now/"
mv "$work/sid/usr/libexec/docker/cli-plugins/"* "$work/tree/now/cli-plugins/"
mv "$work/bookworm/usr/bin/docker" "$work/tree/old/"
mkdir "$work/tree/old/usr"
mv "$work/bookworm/usr/bin/docker-compose" "$work/tree/old/usr/compose-1"
mv "$work/bookworm/usr/bin" "$work/bookworm/usr/lib" "$work/tree/old/usr/"
cat >"$work/tree/old/docker-compose" <<'SCRIPT'
#!/bin/sh
# Debian 12's Python and its modules, as they were unpacked beside this file.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONHOME="$here/usr" PYTHONPATH="$here/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
exec "$here/usr/bin/python3.11" -W ignore "$here/usr/compose-1" "$@"
SCRIPT
chmod 755 "$work/tree/old/docker-compose"

for program in now/docker old/docker; do
    "$work/tree/$program" --version >/dev/null || die "$program does not run on this machine."
done
"$work/tree/now/cli-plugins/docker-compose" version >/dev/null || die "compose 2 does not run on this machine."
# Compiled once, or each start would compile anew.
PYTHONHOME="$work/tree/old/usr" "$work/tree/old/usr/bin/python3.11" -m compileall -q --invalidation-mode unchecked-hash \
    -s "$work/tree" "$work/tree/old/usr/lib" >/dev/null 2>&1 || true
"$work/tree/old/docker-compose" version --short >/dev/null || die "compose 1.29 does not run on this machine."

{ echo "recipe $recipe" && cat "$work/packages"; } >"$work/tree/versions"
rm -rf "$folder"
mv "$work/tree" "$folder"
printf '%s\n' "$folder"
