#!/bin/sh
# Makes this checkout runnable: Debian packages that are missing, ids for the users inside containers where the account has
# none, then .venv with kitepy and kitepy-engine in it.
#
#   packaging/install.sh          what the app and its engine need
#   packaging/install.sh demo     and a virtual display, for `kitepy demo` on a machine without a screen
#   packaging/install.sh test     and the tools of the test suite, and Docker's clients (see clients.sh)
#
# A second run changes nothing and needs no network: packages are looked up in dpkg's database, and the virtual
# environment carries a stamp of everything it was made from.
#
#   PYTHON=…               interpreter for .venv (default: python3, else the newest one that is new enough)
#   KITEPY_SKIP_PACKAGES=1 leave Debian packages and ids alone (other distributions; containers prepared otherwise)
#   KITEPY_ETC=…           where subuid, subgid and passwd are (default: /etc)
set -eu

cd "$(dirname "$0")/.."
group=${1:-app}

# "a|b" is one library that was renamed when Debian and Ubuntu moved to 64-bit time.
# Engine: rules, system call filter, ids and network of an engine without root, the starter image's only program.
ENGINE_PACKAGES="libnftables1 libseccomp2 uidmap passt busybox-static iproute2"
# Qt's own plugins for X11 and Wayland; the first window fails without any one of them.
APP_PACKAGES="libgl1 libegl1 libglib2.0-0|libglib2.0-0t64 libdbus-1-3 libfontconfig1 libx11-xcb1 libxkbcommon-x11-0
    libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libbrotli1 libgssapi-krb5-2 libwayland-client0
    libwayland-cursor0 fonts-dejavu-core"
DEMO_PACKAGES="xvfb xdotool openbox"
# netbase: nft names protocols by /etc/protocols. gcc: a few system calls have no program that makes them, so a test compiles one.
# debian-archive-keyring: the clients that the tests drive the engine with come from Debian's packages, also on Ubuntu.
# docker-registry, skopeo, buildah: what images are pulled from and pushed to, and who else writes and reads them there.
TEST_PACKAGES="$DEMO_PACKAGES trayer dbus dbus-x11 mmdebstrap nftables netbase gcc libc6-dev debian-archive-keyring
    docker-registry skopeo buildah gnome-keyring"

# A machine of its own for what this one may not have: QEMU, and what makes its disk.
VM_PACKAGES="qemu-system-x86 e2fsprogs"

say() { printf '%s\n' "kitepy: $*"; }
die() { printf '%s\n' "kitepy: $*" >&2; exit 1; }

case $group in
    app) packages="$ENGINE_PACKAGES $APP_PACKAGES" ;;
    demo) packages="$ENGINE_PACKAGES $APP_PACKAGES $DEMO_PACKAGES" ;;
    test) packages="$ENGINE_PACKAGES $APP_PACKAGES $TEST_PACKAGES" ;;
    vm) packages="$ENGINE_PACKAGES $APP_PACKAGES $TEST_PACKAGES $VM_PACKAGES" ;;
    *) die "unknown group \"$group\": use app, demo, test or vm." ;;
esac

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "these packages are missing and there is no sudo. Run as root: apt-get install --no-install-recommends $wanted"
    fi
}

# --- Debian packages -------------------------------------------------------------------------------------------------

installed_packages() {
    dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p'
}

# Prints the entries of $packages of which no spelling is installed.
missing_packages() {
    have=" $(installed_packages | tr '\n' ' ')"
    for entry in $packages; do
        found=no
        for name in $(printf '%s' "$entry" | tr '|' ' '); do
            case $have in *" $name "*) found=yes ;; esac
        done
        [ "$found" = yes ] || printf '%s ' "$entry"
    done
}

# The spelling of "a|b" that this release has.
spelling() {
    for name in $(printf '%s' "$1" | tr '|' ' '); do
        if apt-cache policy "$name" | grep -q 'Candidate: [^(]'; then
            printf '%s' "$name"
            return
        fi
    done
    printf '%s' "${1%%|*}"
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}

install_packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    wanted=$(printf '%s' "$missing" | sed 's/|[^ ]*//g')
    command -v apt-get >/dev/null 2>&1 || die "this is no Debian or Ubuntu. Install what stands for these packages and" \
        "set KITEPY_SKIP_PACKAGES=1: $wanted"
    say "installing Debian packages: $wanted"
    apt_get update
    wanted=
    for entry in $missing; do wanted="$wanted $(spelling "$entry")"; done
    # shellcheck disable=SC2086  # a list of names
    apt_get install -y --no-install-recommends $wanted
    # Its package makes a service of it, for everybody who reaches this machine; tests start one of their own.
    case " $wanted " in
        *" docker-registry "*)
            [ ! -d /run/systemd/system ] || as_root systemctl disable --quiet --now docker-registry.service ||
                say "docker-registry.service could not be stopped; the tests don't need it." ;;
    esac
}

# --- Ids for the users inside containers -------------------------------------------------------------------------------

# Prints the first of 65,536 ids from 100,000 on that nobody has in either file.
free_ids() {
    cat "$etc/subuid" "$etc/subgid" 2>/dev/null | sort -t : -k 2,2n |
        awk -F : 'BEGIN { first = 100000 } NF == 3 && $2 + 0 < first + 65536 && first < $2 + $3 { first = $2 + $3 } END { print first }'
}

has_ids() {
    grep -q -E "^($user|$(id -u)):[0-9]+:[1-9]" "$etc/$1" 2>/dev/null
}

# An engine without root maps the users inside containers to ids that belong to this account alone; subuid(5).
ensure_subordinate_ids() {
    etc=${KITEPY_ETC:-/etc}
    [ "$(id -u)" -ne 0 ] || return 0
    user=$(id -un)
    if has_ids subuid && has_ids subgid; then return 0; fi
    first=$(free_ids)
    options=
    has_ids subuid || options="$options --add-subuids $first-$((first + 65535))"
    has_ids subgid || options="$options --add-subgids $first-$((first + 65535))"
    say "your account has no ids to lend to the users inside containers, so that they need no administrator rights."
    if ! grep -q "^$user:" "$etc/passwd"; then
        say "it is not in /etc/passwd, so nothing was changed; kitepy doctor tells the command."
    elif ! command -v sudo >/dev/null 2>&1; then
        say "there is no sudo. Run as root: touch $etc/subuid $etc/subgid; usermod$options $user"
    else
        say "giving it ids that nobody else has: sudo usermod$options $user"
        [ -e "$etc/subuid" ] && [ -e "$etc/subgid" ] || sudo touch "$etc/subuid" "$etc/subgid"
        # shellcheck disable=SC2086  # a list of options
        sudo usermod $options "$user" || say "that did not work; kitepy doctor tells what is missing."
    fi
}

# --- Python ----------------------------------------------------------------------------------------------------------

usable() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if usable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

ensure_python() {
    python=$(find_python)
    [ -z "$python" ] || return 0
    [ "${KITEPY_SKIP_PACKAGES:-0}" != 1 ] || die "no Python 3.11 or newer with the venv module was found; set PYTHON=…"
    packages="python3 python3-venv"
    install_packages
    python=$(find_python)
    [ -n "$python" ] || die "Kitepy needs Python 3.11 or newer; this release has $(python3 -V 2>&1). Set PYTHON=… to a newer one."
}

fingerprint() {
    { echo "$1" && pwd && cat pyproject.toml constraints.txt packaging/install.sh; } | sha256sum | cut -d ' ' -f 1
}

# $1: what to install, "." or ".[test]"; $2: name of the stamp
install_environment() {
    stamp=.venv/.kitepy-$2
    mark=$(fingerprint "$1")
    if [ -x .venv/bin/kitepy ] && [ "$(cat "$stamp" 2>/dev/null)" = "$mark" ] && .venv/bin/python -c '' 2>/dev/null; then
        return 0
    fi
    ensure_python
    if ! usable .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "creating .venv with $("$python" -V)"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "installing Python packages into .venv (the first time takes a minute or two)"
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e "$1"
    printf '%s\n' "$mark" >"$stamp"
    # What the tests need holds all that the app needs.
    [ "$2" = app ] || fingerprint . >.venv/.kitepy-app
}

if [ "${KITEPY_SKIP_PACKAGES:-0}" != 1 ]; then
    install_packages
    ensure_subordinate_ids
fi
if [ "$group" = test ]; then
    install_environment '.[test]' test
    packaging/clients.sh >/dev/null
else
    install_environment . app
fi
